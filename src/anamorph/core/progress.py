"""Progress of long work, as a callback."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "no_progress"]

Progress = Callable[[int, int], None]
"""A function of (done, total), called now and then."""


def no_progress(done: int, total: int) -> None:
    """Ignore progress."""
