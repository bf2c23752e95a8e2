"""anamorph: train latent generative models, look around in their latent spaces, edit through them, measure them.

>>> import anamorph
>>> "alae" in anamorph.list_models()
True
>>> run = anamorph.train("alae", "digits", images=256, out="runs/digits", progress=False)
>>> run.model.sample(16, seed=0)
SignalBatch(16 images of 8x8 with 1 channel; dtype=torch.float32, device=cpu)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anamorph.api import TrainedRun, list_models, list_priors, read_images, train, training_steps
    from anamorph.coding.compress import compress, decompress
    from anamorph.core.errors import UserError
    from anamorph.core.random import Seeded
    from anamorph.core.signal_batch import SignalBatch
    from anamorph.data.open import open_source
    from anamorph.data.read_options import ReadOptions
    from anamorph.figures.grid import save_grid
    from anamorph.runs import load

    __version__: str

__all__ = [
    "ReadOptions",
    "Seeded",
    "SignalBatch",
    "TrainedRun",
    "UserError",
    "__version__",
    "compress",
    "decompress",
    "list_models",
    "list_priors",
    "load",
    "open_source",
    "read_images",
    "save_grid",
    "train",
    "training_steps",
]

_HOME = {
    "ReadOptions": "anamorph.data.read_options",
    "Seeded": "anamorph.core.random",
    "SignalBatch": "anamorph.core.signal_batch",
    "TrainedRun": "anamorph.api",
    "UserError": "anamorph.core.errors",
    "compress": "anamorph.coding.compress",
    "decompress": "anamorph.coding.compress",
    "list_models": "anamorph.api",
    "list_priors": "anamorph.api",
    "load": "anamorph.runs",
    "open_source": "anamorph.data.open",
    "read_images": "anamorph.api",
    "save_grid": "anamorph.figures.grid",
    "train": "anamorph.api",
    "training_steps": "anamorph.api",
}


def __getattr__(name: str) -> Any:
    """Import what this package offers when it is first asked for: the command line answers before torch is loaded."""
    if name == "__version__":
        from importlib.metadata import version

        return version("anamorph")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'anamorph' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List what this package offers, for completion; nothing is imported."""
    return sorted({*globals(), *__all__})
