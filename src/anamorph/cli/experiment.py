"""`anamorph experiment NAME`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

import anamorph
from anamorph.cli.options import note, parse
from anamorph.core.errors import UserError, nearest

__all__ = ["main"]

CHECKOUT = Path(anamorph.__file__).parents[2]
"""The repository's root, if anamorph is installed from a checkout in editable mode."""


@dataclass(frozen=True)
class Experiment:
    """Run an experiment of docs/results.md, from a checkout of the repository. An interrupted one goes on where it stopped."""

    name: tyro.conf.Positional[str]
    """Name of the experiment, or list."""
    out: Path | None = None
    """Folder for its runs and results; runs/NAME by default."""
    device: str | None = None
    """cpu or cuda."""
    precision: Literal["float32", "bfloat16"] | None = None
    """Precision of the arithmetic; by default bfloat16 where it is faster."""
    threads: int | None = None
    """Processor threads; by default the fastest number at the moment."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the training steps."""
    images: int | None = None
    """Train each model on this many images instead of the experiment's own number."""
    minutes: float | None = None
    """CPU minutes of training per model in family-comparison; 20 by default."""
    n: int | None = None
    """Images and samples that are measured in family-comparison; 5,000 by default."""
    family: Literal["fashion-mnist", "cats"] | None = None
    """Compare only the models of these images in family-comparison."""


def main(words: Sequence[str]) -> int:
    options = parse(Experiment, "experiment", words)
    catalog = _catalog()
    if options.name == "list":
        print("\n".join(f"{name:<15} {what}" for name, what in catalog.EXPERIMENTS.items()))
        return 0
    if options.name not in catalog.EXPERIMENTS:
        raise UserError(f"no experiment {options.name!r}: {nearest(options.name, catalog.EXPERIMENTS)}")

    import os

    from anamorph.cli.train import COMPILED
    from anamorph.training.autotune import ComputeRequest
    from anamorph.training.live import Stop

    if hasattr(os, "nice"):
        os.nice(5)
    choice = ComputeRequest(options.device, options.precision, options.threads, COMPILED[options.compile])
    out = options.out or Path("runs") / options.name
    overrides = catalog.Overrides(options.images, options.minutes, options.n, options.family)
    with Stop().listening() as stop:
        if catalog.run_experiment(options.name, out, choice, note, overrides, stop):
            return 0
    note(f"stopped and saved: the same command goes on from {out}")
    return 130


def _catalog() -> Any:
    """Return the module `experiments.catalog` of the checkout.

    Raises:
        UserError: if anamorph is not installed from a checkout.
    """
    if not (CHECKOUT / "experiments" / "catalog.py").is_file():
        raise UserError(
            "the experiments are not part of the installed package, and no checkout of the repository was found around it: "
            "clone the repository, run `pip install -e .` in it, and start the experiment again"
        )
    if str(CHECKOUT) not in sys.path:
        sys.path.insert(0, str(CHECKOUT))
    return importlib.import_module("experiments.catalog")
