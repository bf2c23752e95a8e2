"""`anamorph experiment NAME`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

import anamorph
from anamorph.cli.options import note
from anamorph.cli.parsing import ADVANCED, parse
from anamorph.core.errors import UserError, nearest

__all__ = ["main"]

CHECKOUT = Path(anamorph.__file__).parents[2]
"""The repository's root, if anamorph is installed from a checkout in editable mode."""


@dataclass(frozen=True)
class Experiment:
    """Run an experiment of docs/results.md, from a checkout of the repository; an interrupted one continues."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME|list")]
    """Name of the experiment; list: list them all."""
    out: Path | None = None
    """Folder of its runs and results. Default: runs/NAME."""
    images: int | None = None
    """Images to train each model on, at least 1. Default: as in docs/results.md."""
    device: str | None = None
    """Device to compute on: cpu, cuda, or one of several GPUs, such as cuda:1. Default: cuda if there is one."""
    minutes: Annotated[float | None, ADVANCED] = None
    """family-comparison: CPU minutes to train each model, above 0. Default: 20."""
    n: Annotated[int | None, ADVANCED] = None
    """family-comparison: number of images and samples to measure, at least 2. Default: 5,000."""
    family: Annotated[Literal["fashion-mnist", "cats"] | None, ADVANCED] = None
    """family-comparison: only the models of these images. Default: both."""
    precision: Annotated[Literal["float32", "bfloat16"] | None, ADVANCED] = None
    """Number format of the networks' arithmetic. Default: bfloat16 where it is faster."""
    threads: Annotated[int | None, ADVANCED] = None
    """Number of processor threads, at least 1. Default: whatever is fastest now."""
    compile: Annotated[Literal["auto", "on", "off"], ADVANCED] = "auto"
    """Compile the training steps. auto: where it pays off."""


def main(words: Sequence[str]) -> int:
    options = parse(Experiment, "experiment", words)
    catalog = _catalog()
    if options.name == "list":
        print("\n".join(f"{name:<20} {description}" for name, description in catalog.EXPERIMENTS.items()))
        return 0
    if options.name not in catalog.EXPERIMENTS:
        raise UserError(f"no experiment {options.name!r}: {nearest(options.name, catalog.EXPERIMENTS)}")

    import os

    from anamorph.cli.train import COMPILED
    from anamorph.training.autotune import ComputeRequest
    from anamorph.training.status_line import Stop

    if hasattr(os, "nice"):
        os.nice(5)
    compute = ComputeRequest(options.device, options.precision, options.threads, COMPILED[options.compile])
    out = options.out or Path("runs") / options.name
    overrides = catalog.Overrides(options.images, options.minutes, options.n, options.family)
    with Stop().listening() as stop:
        if catalog.run_experiment(options.name, out, compute, note, overrides, stop):
            return 0
    note(f"stopped and saved in {out}: go on with the same command")
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
