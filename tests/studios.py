"""Helpers of the studio's tests. They wait for conditions, as long as a very busy machine may need, and never for a time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from anamorph.runs import load
from anamorph.studio.app import create_app
from anamorph.studio.bench import Bench
from anamorph.studio.limits import JOBS
from anamorph.studio.projecting import RefinedPoint, Stopped
from anamorph.studio.serve import server_of
from anamorph.studio.service import Service
from anamorph.studio.stores import Store

__all__ = ["PATIENCE", "EndlessOptimisation", "bench_of", "eventually", "pixels", "png_of", "studio_of"]

PATIENCE = 300.0
"""Seconds after which a condition that has not come true never will."""


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true; fail if it never is."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "the condition has not come true"
        time.sleep(0.01)


class EndlessOptimisation:
    """In place of `refine`: shows the target, and runs until it is stopped."""

    def __init__(self, service: Service) -> None:
        self.service, self.started = service, threading.Semaphore(0)

    def __call__(
        self, prepared: Any, free: Any, steps: int, stay: float, stop: threading.Event, show: Any = None
    ) -> RefinedPoint:
        if show is not None:
            show(prepared.x[0], 0)
        self.started.release()
        assert stop.wait(PATIENCE)
        raise Stopped

    def wait_until_started(self) -> None:
        assert self.started.acquire(timeout=PATIENCE)

    def wait_until_all_ended(self) -> None:
        eventually(lambda: self.service.jobs._value == JOBS)


def bench_of(run: Path) -> Bench:
    """Return a run's model with empty stores."""
    return Bench(load(run), run, Store(1000), Store(1000))


def pixels(content: bytes) -> Any:
    """Return the pixels [H, W, C] of a picture."""
    return np.asarray(Pillow.open(BytesIO(content)).convert("RGB")).astype(int)


def png_of(colour: tuple[int, int, int] = (200, 30, 90), size: tuple[int, int] = (30, 20), kind: str = "PNG") -> bytes:
    """Return a picture of one colour."""
    out = BytesIO()
    Pillow.new("RGB", size, colour).save(out, kind)
    return out.getvalue()


@contextmanager
def studio_of(service: Service, token: str = "") -> Iterator[str]:
    """Run a studio in a thread; yield its address."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server, run = server_of(create_app(service, token), sock)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    eventually(lambda: server.started or not thread.is_alive())
    assert server.started
    yield f"http://127.0.0.1:{sock.getsockname()[1]}/"
    server.should_exit = True
    thread.join(PATIENCE)
    sock.close()
