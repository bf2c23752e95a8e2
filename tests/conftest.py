"""Every test computes on one thread, from the same random numbers, offline, and keeps its caches in a folder that vanishes."""

from __future__ import annotations

import shutil
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from anamorph.figures.curves import save_curves
from anamorph.training import autotune, pictures, session

pytest_plugins = ["studio_fixtures"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print why tests were skipped, and how many for each reason."""
    reports = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reports)
    if reasons:
        terminalreporter.section(f"{sum(reasons.values())} skipped, because")
        for reason, count in reasons.most_common():
            terminalreporter.line(f"{count:>5}  {reason}")


@pytest.fixture(autouse=True)
def _alike() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _quick_training(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Speed up what trainings spend on anything but training.

    Pictures are made at the beginning and the end. Curves are drawn once per process, and their file is copied from then on.
    Compute settings are timed with one trial each.
    """
    first = tmp_path_factory.mktemp("curves") / "curves.png"

    def draw_once(path: Path, panels: Mapping[str, Mapping[str, Any]]) -> None:
        assert all(len(x) == len(y) > 0 for curves in panels.values() for x, y in curves.values())
        if not first.exists():
            save_curves(first, panels)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(first, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "save_curves", draw_once)
        patch.setattr(session, "picture_milestones", lambda total: (0, total))
        patch.setattr(autotune, "TRIAL_SECONDS", 0.0)
        yield


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
