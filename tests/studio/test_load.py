"""Many clients for a minute, and long dragging: no response is lost, and memory does not grow."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from anamorph.studio.service import Service, find_runs
from studios import studio_of

CLIENTS = 50


def _drag(address: str, number: int, seconds: float, answers: list[int], wrong: list[str]) -> None:
    """Be a client that requests a picture whenever it has received the last."""
    try:
        with connect(address.replace("http", "ws") + "api/live", open_timeout=60) as socket:
            end, serial = time.monotonic() + seconds, 0
            while time.monotonic() < end:
                serial += 1
                point = {"kind": "truncate", "of": {"kind": "seed", "seed": number}, "psi": serial % 20 / 20}
                socket.send(json.dumps({"channel": 0, "serial": serial, "run": "styled", "points": [point]}))
                answer = socket.recv(timeout=60)
                if isinstance(answer, str) or json.loads(answer[4 : 4 + int.from_bytes(answer[:4], "big")])["serial"] != serial:
                    wrong.append(str(answer)[:200])
            answers.append(serial)
    except (OSError, TimeoutError) as error:
        wrong.append(repr(error))


@pytest.mark.slow
def test_fifty_clients_for_a_minute_lose_no_response(runs: Path) -> None:
    service = Service(find_runs([runs / "styled"]))
    answers: list[int] = []
    wrong: list[str] = []
    with studio_of(service) as address:
        clients = [threading.Thread(target=_drag, args=(address, i, 60.0, answers, wrong)) for i in range(CLIENTS)]
        for client in clients:
            client.start()
        while any(client.is_alive() for client in clients):
            assert httpx.get(f"{address}api/runs", timeout=30).status_code == 200
            time.sleep(1)
        assert not wrong
        assert len(answers) == CLIENTS
        assert min(answers) > 0
        assert service.worker("styled").passes < sum(answers) / 2  # requests that wait share passes
    service.close()


@pytest.mark.slow
def test_memory_stays_flat_over_long_dragging(runs: Path) -> None:
    def resident_mb() -> float:
        text = Path("/proc/self/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024

    service = Service(find_runs([runs / "styled"]))
    answers: list[int] = []
    wrong: list[str] = []
    with studio_of(service) as address:
        _drag(address, 1, 20.0, answers, wrong)
        before = resident_mb()
        _drag(address, 2, 60.0, answers, wrong)
        assert not wrong
        assert resident_mb() - before < 30
    service.close()
