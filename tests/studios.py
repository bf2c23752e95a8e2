"""What the tests of the studio have in common."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from anamorph.runs import load
from anamorph.studio.app import create_app
from anamorph.studio.bench import Bench
from anamorph.studio.serve import server_of
from anamorph.studio.service import Service
from anamorph.studio.stores import Store

__all__ = ["bench_of", "pixels", "png_of", "studio_of"]


def bench_of(run: Path) -> Bench:
    return Bench(load(run), run, Store(1000), Store(1000))


def pixels(content: bytes) -> Any:
    """What a picture holds [H, W, C]."""
    return np.asarray(Pillow.open(BytesIO(content)).convert("RGB")).astype(int)


def png_of(colour: tuple[int, int, int] = (200, 30, 90), size: tuple[int, int] = (30, 20), kind: str = "PNG") -> bytes:
    out = BytesIO()
    Pillow.new("RGB", size, colour).save(out, kind)
    return out.getvalue()


@contextmanager
def studio_of(service: Service, token: str = "") -> Iterator[str]:
    """The address of a studio that listens, in a thread."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server, run = server_of(create_app(service, token), sock)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{sock.getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)
    sock.close()
