"""Every test computes on one thread, from the same random numbers, offline, and keeps its caches in a folder that vanishes."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch

pytest_plugins = ["studio_fixtures"]


@pytest.fixture(autouse=True)
def _alike() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANAMORPH_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections beyond this machine fail at once, as if there were no network."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"tests are offline, and something asked for {address}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture
def real_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of real data sets; skips the test, saying so, where there is none."""
    import os

    folder = os.environ.get("ANAMORPH_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("real data sets are not at hand: set ANAMORPH_DATA to their folder")
    return Path(folder)
