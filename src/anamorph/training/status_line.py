"""Progress of a training: one live line on a terminal, a line every ten seconds on a pipe."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from anamorph.training.session import Status

__all__ = ["Live", "Stop", "duration", "line_progress"]

EVERY_SECONDS = 10.0
NOTEBOOK_SECONDS = 0.5
"""Between two updates of the line in a notebook, whose browser has to draw each."""


class Stop:
    """Whether the user has requested to stop, by Ctrl-C or SIGTERM; a second request stops at once."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(self) -> bool:
        return self.requested

    @contextmanager
    def listening(self) -> Iterator[Stop]:
        """Handle the signals while this is entered."""
        before = {number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


class Live:
    """Prints the statuses of a training."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.losses = ""
        self._printed = -math.inf
        columns = (TextColumn("{task.percentage:>3.0f}%"), BarColumn(24), TextColumn("{task.fields[line]}"))
        self._bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self._task = self._bar.add_task("", total=None, line="")

    def __enter__(self) -> Live:
        self._bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.__exit__(*error)

    def show(self, status: Status) -> None:
        """Print what is new in a status."""
        if status.record:
            self.losses = _losses(status.record)
        for warning in status.warnings:
            self._bar.console.print(f"at {status.images:,} images: {warning}", style="yellow", soft_wrap=True)
        line = (
            f"{status.images:,} images  {status.images_per_second:,.0f}/s  {duration(status.seconds_left)} left  {self.losses}"
        )
        if self.console.is_terminal:
            self._bar.update(self._task, completed=status.images, total=status.total, line=line)
        elif in_notebook():
            if time.monotonic() - self._printed > NOTEBOOK_SECONDS or status.images >= status.total:
                self._printed = time.monotonic()
                print(f"\r{line:<120}", end="" if status.images < status.total else "\n", flush=True)
        elif status.record and (time.monotonic() - self._printed > EVERY_SECONDS or status.images >= status.total):
            self._printed = time.monotonic()
            print(line, flush=True)


def in_notebook() -> bool:
    """Return whether the output goes to a Jupyter notebook, where a line can be written over, though it is no terminal."""
    return "ipykernel" in sys.modules


def line_progress(what: str) -> Callable[[int, int], None]:
    """Return a function of (done, total) that writes over one line of stderr, at most twice a second."""
    printed = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal printed
        if time.monotonic() - printed > NOTEBOOK_SECONDS:
            printed = time.monotonic()
            print(f"\r{what}: {done:,} of {total:,}", end="" if done < total else "\n", file=sys.stderr, flush=True)

    return show


def _losses(record: dict[str, Any]) -> str:
    values = {name: v for name, v in record.items() if "/" in name and isinstance(v, float)}
    return "  ".join(f"{name} {value:.4g}" for name, value in list(values.items())[:6])


def duration(seconds: float) -> str:
    """Format seconds as 45s, 12m 05s or 3h 20m."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {rest:02}s" if minutes else f"{rest}s"
