"""Errors that a user can act on: what was got, what was wanted, and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["UserError", "nearest"]


class UserError(ValueError):
    """A mistake in what was asked for, not in the program; the command line prints it without a traceback."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that ends an error about an unknown name: the nearest known names, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "known: " + ", ".join(known)
