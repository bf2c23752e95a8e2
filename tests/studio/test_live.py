"""The WebSocket: live pictures, and invalid or hostile messages."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from anamorph.studio import live as projections
from anamorph.studio.bench import Bench
from anamorph.studio.limits import JOBS, MESSAGE_BYTES
from anamorph.studio.service import Service, find_runs
from studios import PATIENCE, EndlessOptimisation, bench_of, pixels, studio_of

SEED = {"kind": "seed", "seed": 7}


def url(address: str) -> str:
    return address.replace("http", "ws") + "api/live"


@pytest.fixture
def live(address: str) -> Iterator[ClientConnection]:
    with connect(url(address), max_size=None) as socket:
        yield socket


def send(socket: ClientConnection, **message: Any) -> None:
    socket.send(json.dumps(message))


def read(socket: ClientConnection) -> tuple[dict[str, Any], list[bytes]]:
    """Return a response's header and parts; of an error, the message and no parts."""
    message = socket.recv(timeout=PATIENCE)
    if isinstance(message, str):
        return json.loads(message), []
    length = int.from_bytes(message[:4], "big")
    header, at, parts = json.loads(message[4 : 4 + length]), 4 + length, []
    for _, size in header["parts"]:
        parts.append(message[at : at + size])
        at += size
    assert at == len(message)
    return header, parts


def test_pictures_come_on_their_channel(live: ClientConnection, runs: Path) -> None:
    send(live, channel=3, serial=8, run="styled", points=[SEED, {"kind": "data", "index": 0}])
    header, parts = read(live)
    assert (header["channel"], header["serial"], header["parts"][0][0]) == (3, 8, "image/webp")
    from anamorph.studio.points import FromData, FromSeed

    seen = bench_of(runs / "styled").see([FromSeed(seed=7), FromData(index=0)])
    for part, image in zip(parts, seen, strict=True):
        assert abs(pixels(part) - (image.clamp(-1, 1) * 127.5 + 127.5).round().permute(1, 2, 0).numpy()).max() <= 1


def test_originals_come_with_the_error(live: ClientConnection) -> None:
    send(live, channel=0, serial=1, run="styled", points=[{"kind": "data", "index": 0}], originals=True)
    header, parts = read(live)
    assert len(parts) == 2
    difference = ((pixels(parts[0]) - pixels(parts[1])) / 127.5) ** 2
    assert header["errors"][0] == pytest.approx(difference.mean(), rel=0.02)


def test_only_the_newest_request_waits(runs: Path) -> None:
    """While the model is busy, a hundred requests arrive: only the first and the last are computed."""
    service = Service(find_runs([runs / "styled"]))
    with studio_of(service) as address, connect(url(address)) as socket:
        go = threading.Event()
        service.worker("styled").ask(lambda bench: go.wait(PATIENCE))
        for serial in range(100):
            send(socket, channel=0, serial=serial, run="styled", points=[{"kind": "truncate", "of": SEED, "psi": serial / 100}])
        send(socket, channel=1, serial=0, run="styled", points=[SEED])
        socket.send("{")  # messages are read in order: once this one is refused, those before it have been read
        assert "Invalid JSON" in read(socket)[0]["error"]
        go.set()
        answers = [read(socket)[0] for _ in range(3)]
        assert sorted((a["channel"], a["serial"]) for a in answers) == [(0, 0), (0, 99), (1, 0)]
    service.close()


def test_errors_are_sent_on_their_channel_and_the_connection_stays_open(live: ClientConnection) -> None:
    for message, error in (
        ('{"channel": 99, "run": "styled", "points": []}', "less than 16"),
        ('{"channel": 1, "serial": 5, "run": "nothing", "points": [{"kind": "seed", "seed": 1}]}', "no run 'nothing'"),
        ('{"channel": 1, "serial": 5, "run": "styled", "points": [{"kind": "what"}]}', "does not match"),
        ('{"channel": 1, "run": "styled", "points": [], "more": 1}', "not permitted"),
        ("{", "Invalid JSON"),
        ("[[[[", "Invalid JSON"),
        ("null", "message"),
        ("[" * 100_000, "message"),
        (b"\x00\x01", "JSON text"),
    ):
        live.send(message)
        header, _ = read(live)
        assert error in header["error"] or error == "message", header
        if '"serial": 5' in str(message):
            assert header["serial"] == 5
    live.send("x" * (MESSAGE_BYTES + 1))
    assert "at most 256 KB" in read(live)[0]["error"]
    send(live, channel=1, serial=6, run="styled", points=[SEED])
    assert read(live)[0]["serial"] == 6


def test_an_endless_message_ends_the_connection(address: str) -> None:
    with connect(url(address)) as socket, pytest.raises(ConnectionClosed):
        socket.send("x" * (4 * MESSAGE_BYTES))
        socket.recv(timeout=PATIENCE)


def test_other_pages_are_refused(address: str) -> None:
    with pytest.raises(InvalidStatus, match="403"), connect(url(address), origin=Origin("http://elsewhere.example")):
        pass


def test_a_failure_of_the_model_is_reported_and_the_studio_keeps_running(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(find_runs([runs / "styled"]))
    real = Bench.decode
    with studio_of(service) as address, connect(url(address)) as socket:

        def broken(self: Bench, codes: Any, look: Any) -> Tensor:
            raise ValueError("a weight is gone")

        monkeypatch.setattr(Bench, "decode", broken)
        send(socket, channel=0, serial=1, run="styled", points=[SEED])
        assert "the model failed: ValueError: a weight is gone" in read(socket)[0]["error"]
        monkeypatch.setattr(Bench, "decode", real)
        send(socket, channel=0, serial=2, run="styled", points=[SEED])
        assert len(read(socket)[1]) == 1
    service.close()


def test_an_optimisation_is_shown_while_it_runs_and_can_be_stopped(
    live: ClientConnection, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = {"kind": "data", "index": 2}
    send(live, channel=2, serial=1, run="styled", points=[target], project={"free": "w+", "steps": 30})
    header, parts = read(live)
    seen = [header]
    while "point" not in header:
        header, parts = read(live)
        seen.append(header)
    assert len(seen) > 1
    assert [h["step"] for h in seen] == sorted(h["step"] for h in seen)
    assert header["after"] < header["before"]
    assert len(parts) == 1
    send(live, channel=2, serial=2, run="styled", points=[header["point"]])
    assert len(read(live)[1]) == 1
    monkeypatch.setattr(projections, "refine", EndlessOptimisation(service))
    send(live, channel=2, serial=3, run="styled", points=[target], project={"steps": 1000})
    read(live)
    send(live, channel=2, stop=True)
    send(live, channel=2, serial=4, run="styled", points=[SEED])
    while header["serial"] != 4:
        header, _ = read(live)
        assert "point" not in header


def test_a_client_that_leaves_frees_its_slot(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(find_runs([runs / "styled"]))
    endless = EndlessOptimisation(service)
    target = {"kind": "data", "index": 0}
    with studio_of(service) as address:
        with monkeypatch.context() as patch:
            patch.setattr(projections, "refine", endless)
            for _ in range(JOBS + 1):
                with connect(url(address)) as socket:
                    send(socket, channel=0, serial=1, run="styled", points=[target], project={"steps": 1000})
                    endless.wait_until_started()
                endless.wait_until_all_ended()
        with connect(url(address)) as socket:
            send(socket, channel=0, serial=1, run="styled", points=[target], project={"steps": 5})
            header = read(socket)[0]
            while "point" not in header:
                assert "error" not in header
                header = read(socket)[0]
    service.close()
