"""anamorph: train latent generative models, look around in their latent spaces, edit through them, measure them.

import anamorph
for status in anamorph.train("alae", "digits", images=100_000, out="runs/digits"): ...
model = anamorph.load("runs/digits")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anamorph.coding.compress import compress, decompress
    from anamorph.core.random import Seeded
    from anamorph.data.open import open_source
    from anamorph.data.read_options import ReadOptions
    from anamorph.figures.grid import save_grid
    from anamorph.runs import load, train

__all__ = ["ReadOptions", "Seeded", "compress", "decompress", "load", "open_source", "save_grid", "train"]

_HOME = {
    "Seeded": "anamorph.core.random",
    "ReadOptions": "anamorph.data.read_options",
    "compress": "anamorph.coding.compress",
    "decompress": "anamorph.coding.compress",
    "load": "anamorph.runs",
    "open_source": "anamorph.data.open",
    "save_grid": "anamorph.figures.grid",
    "train": "anamorph.runs",
}


def __getattr__(name: str) -> Any:
    """What this package offers is imported when it is first asked for: the command line answers before torch is loaded."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'anamorph' has no attribute {name!r}")
