"""Many clients at once, and long dragging: no response is lost, and memory does not grow."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from anamorph.studio.service import Service, find_runs
from anamorph.studio.worker import BATCH
from studios import PATIENCE, eventually, studio_of

CLIENTS, REQUESTS = 50, 60
DRAGGED = (400, 2000)
"""Requests before memory is measured first, and until it is measured again."""


def _drag(address: str, number: int, requests: int, wrong: list[str]) -> None:
    """Be a client that requests a picture whenever it has received the last."""
    try:
        with connect(address.replace("http", "ws") + "api/live", open_timeout=PATIENCE) as socket:
            for serial in range(requests):
                point = {"kind": "truncate", "of": {"kind": "seed", "seed": number}, "psi": serial % 20 / 20}
                socket.send(json.dumps({"channel": 0, "serial": serial, "run": "styled", "points": [point]}))
                answer = socket.recv(timeout=PATIENCE)
                if isinstance(answer, str) or json.loads(answer[4 : 4 + int.from_bytes(answer[:4], "big")])["serial"] != serial:
                    wrong.append(str(answer)[:200])
    except (OSError, TimeoutError) as error:
        wrong.append(repr(error))


@pytest.mark.slow
def test_fifty_clients_at_once_lose_no_response(runs: Path) -> None:
    service = Service(find_runs([runs / "styled"]))
    worker = service.worker("styled")
    wrong: list[str] = []
    with studio_of(service) as address:
        clients = [threading.Thread(target=_drag, args=(address, i, REQUESTS, wrong)) for i in range(CLIENTS)]
        go = threading.Event()
        busy = worker.ask(lambda bench: go.wait(PATIENCE))
        for client in clients:
            client.start()
        eventually(lambda: busy.running() and len(worker._queue) == CLIENTS)
        passes = worker.ask(lambda bench: worker.passes)
        go.set()
        assert passes.result(PATIENCE) == -(-CLIENTS // BATCH)  # requests that wait share passes
        while any(client.is_alive() for client in clients):
            assert httpx.get(f"{address}api/runs", timeout=PATIENCE).status_code == 200
        for client in clients:
            client.join(PATIENCE)
    assert not wrong
    service.close()


@pytest.mark.slow
def test_memory_stays_flat_over_long_dragging(runs: Path) -> None:
    def resident_mb() -> float:
        text = Path("/proc/self/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024

    service = Service(find_runs([runs / "styled"]))
    wrong: list[str] = []
    with studio_of(service) as address:
        _drag(address, 1, DRAGGED[0], wrong)
        before = resident_mb()
        _drag(address, 2, DRAGGED[1], wrong)
        assert not wrong
        assert resident_mb() - before < 30
    service.close()
