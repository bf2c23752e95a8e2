"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "quiet"]

Progress = Callable[[int, int], None]
"""Told how many are done, and of how many."""


def quiet(done: int, total: int) -> None:
    """Tells nobody."""
