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
    from anamorph.coding.compress import compress, decompress
    from anamorph.core.errors import UserError
    from anamorph.core.random import Seeded
    from anamorph.core.signal_batch import SignalBatch
    from anamorph.data.open import open_source
    from anamorph.data.read_options import ReadOptions
    from anamorph.evaluation.measure_runs import compare_runs as compare
    from anamorph.evaluation.measure_runs import evaluate_run as evaluate
    from anamorph.figures.grid import save_grid
    from anamorph.python_api import TrainedRun, list_models, list_priors, read_images, train, training_steps
    from anamorph.runs import load

    __version__: str

__all__ = [
    "ReadOptions",
    "Seeded",
    "SignalBatch",
    "TrainedRun",
    "UserError",
    "__version__",
    "compare",
    "compress",
    "decompress",
    "evaluate",
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
    "ReadOptions": "anamorph.data.read_options:ReadOptions",
    "Seeded": "anamorph.core.random:Seeded",
    "SignalBatch": "anamorph.core.signal_batch:SignalBatch",
    "TrainedRun": "anamorph.python_api:TrainedRun",
    "UserError": "anamorph.core.errors:UserError",
    "compare": "anamorph.evaluation.measure_runs:compare_runs",
    "compress": "anamorph.coding.compress:compress",
    "decompress": "anamorph.coding.compress:decompress",
    "evaluate": "anamorph.evaluation.measure_runs:evaluate_run",
    "list_models": "anamorph.python_api:list_models",
    "list_priors": "anamorph.python_api:list_priors",
    "load": "anamorph.runs:load",
    "open_source": "anamorph.data.open:open_source",
    "read_images": "anamorph.python_api:read_images",
    "save_grid": "anamorph.figures.grid:save_grid",
    "train": "anamorph.python_api:train",
    "training_steps": "anamorph.python_api:training_steps",
}


def __getattr__(name: str) -> Any:
    """Import what this package offers when it is first asked for: the command line answers before torch is loaded."""
    if name == "__version__":
        from importlib.metadata import version

        return version("anamorph")
    if name in _HOME:
        module, _, attribute = _HOME[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    raise AttributeError(f"module 'anamorph' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List what this package offers, for completion; nothing is imported."""
    return sorted({*globals(), *__all__})
