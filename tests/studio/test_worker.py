from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.signal import Signal
from anamorph.studio.limits import QUEUED_REQUESTS
from anamorph.studio.points import DecodeOptions, FromData, FromSeed, Point
from anamorph.studio.worker import Closed, Worker
from studios import PATIENCE, bench_of

S: list[Point] = [FromSeed(seed=i) for i in range(8)]


def count(_: Signal, images: Tensor) -> int:
    return len(images)


def busy(worker: Worker) -> threading.Event:
    """Keep a worker busy until an event is set."""
    go, started = threading.Event(), threading.Event()

    def wait(_: Any) -> None:
        started.set()
        assert go.wait(PATIENCE)

    worker.ask(wait)
    assert started.wait(PATIENCE)
    return go


def test_requests_that_wait_share_a_forward_pass(runs: Path) -> None:
    worker = Worker(lambda: bench_of(runs / "styled"), "test")
    go = busy(worker)
    waiting = [worker.see([point], DecodeOptions(), lambda _, images: images) for point in S]
    go.set()
    images = [future.result(PATIENCE) for future in waiting]
    assert worker.passes == 1
    alone = bench_of(runs / "styled")
    assert all(float((alone.see([p]) - x).abs().max()) < 1e-4 for p, x in zip(S, images, strict=True))
    worker.close()


def test_an_error_fails_only_its_own_request(runs: Path, caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker(lambda: bench_of(runs / "styled"), "test")
    go = busy(worker)

    def break_down(_: Signal, images: Tensor) -> Tensor:
        raise ZeroDivisionError("by zero")

    fine, mistaken, broken = (
        worker.see(S[:1], DecodeOptions(), lambda _, images: images),
        worker.see([FromData(index=10**6)], DecodeOptions(), lambda _, images: images),
        worker.see(S[1:2], DecodeOptions(), break_down),
    )
    go.set()
    assert fine.result(PATIENCE).shape == (1, 3, 16, 16)
    with pytest.raises(UserError, match="numbered from 0"):
        mistaken.result(PATIENCE)
    with pytest.raises(RuntimeError, match="the model failed: ZeroDivisionError: by zero"):
        broken.result(PATIENCE)
    assert "by zero" in caplog.text
    assert worker.see(S[:2], DecodeOptions(), count).result(PATIENCE) == 2
    worker.close()


def test_a_request_that_breaks_a_pass_does_not_break_the_others(runs: Path) -> None:
    bench = bench_of(runs / "styled")
    real = bench.decode

    def decode(codes: Any, look: DecodeOptions) -> Tensor:
        if len(codes["w"]) != 1:
            raise MemoryError("too many")
        return real(codes, look)

    bench.decode = decode  # type: ignore[method-assign]
    worker = Worker(lambda: bench, "test")
    go = busy(worker)
    fine, broken = worker.see(S[:1], DecodeOptions(), count), worker.see(S[1:3], DecodeOptions(), count)
    go.set()
    assert fine.result(PATIENCE) == 1
    with pytest.raises(RuntimeError, match="MemoryError"):
        broken.result(PATIENCE)
    worker.close()


def test_cancelled_requests_are_skipped_and_too_many_are_refused(runs: Path) -> None:
    worker = Worker(lambda: bench_of(runs / "styled"), "test")
    go = busy(worker)
    decoded: list[int] = []
    waiting = [
        worker.see(S[:1], DecodeOptions(), lambda _, images: decoded.append(len(images))) for _ in range(QUEUED_REQUESTS)
    ]
    with pytest.raises(UserError, match="requests wait for this model already"):
        worker.ask(lambda bench: None)
    assert all(future.cancel() for future in waiting)
    go.set()
    assert worker.ask(lambda bench: 5).result(PATIENCE) == 5
    assert not decoded
    worker.close()


def test_every_request_fails_if_the_model_cannot_be_loaded(tmp_path: Path) -> None:
    def broken() -> Any:
        raise UserError("no checkpoint yet")

    worker = Worker(broken, "test")
    for _ in range(2):
        with pytest.raises(UserError, match="no checkpoint yet"):
            worker.see(S, DecodeOptions(), count).result(PATIENCE)
    worker.close()
    with pytest.raises(Closed):
        worker.ask(lambda bench: None)
