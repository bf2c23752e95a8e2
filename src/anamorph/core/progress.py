"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "no_progress"]

Progress = Callable[[int, int], None]
"""Told how many are done, and of how many."""


def no_progress(done: int, total: int) -> None:
    """Tells nobody."""
