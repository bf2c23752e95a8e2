"""`anamorph experiment NAME`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from anamorph.cli.options import note, parse
from anamorph.core.errors import UserError, nearest

__all__ = ["main"]

EXPERIMENTS = {
    "mnist-probes": "alae, vae and autoencoder on MNIST, 75 epochs, 3 seeds: 1-NN and linear SVM on their codes (hours)",
}


@dataclass(frozen=True)
class Experiment:
    """Run an experiment of docs/results.md; what an interrupted one has done is kept, so that it can be started again."""

    name: tyro.conf.Positional[str]
    """Its name, or list."""
    out: Path | None = None
    """Where its runs and results go; runs/NAME by default."""
    device: str | None = None
    """cpu or cuda."""
    precision: Literal["float32", "bfloat16"] | None = None
    """Of the arithmetic; by default bfloat16 where it is faster."""
    threads: int | None = None
    """Processor threads; by default what is fastest now."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the training steps."""
    epochs: int | None = None
    """Fewer (or more) passes over the data than the experiment's own."""


def main(words: Sequence[str]) -> int:
    options = parse(Experiment, "experiment", words)
    if options.name == "list":
        print("\n".join(f"{name:<15} {what}" for name, what in EXPERIMENTS.items()))
        return 0
    if options.name not in EXPERIMENTS:
        raise UserError(f"no experiment {options.name!r}: {nearest(options.name, EXPERIMENTS)}")

    import os

    from anamorph.cli.live import Stop
    from anamorph.cli.train import COMPILED
    from anamorph.experiments.mnist_probes import EPOCHS, mnist_probes
    from anamorph.training.machine import Choice

    if hasattr(os, "nice"):
        os.nice(5)
    choice = Choice(options.device, options.precision, options.threads, COMPILED[options.compile])
    epochs = EPOCHS if options.epochs is None else options.epochs
    out = options.out or Path("runs") / options.name
    with Stop().listening() as stop:
        if mnist_probes(out, choice, note, epochs, stop):
            return 0
    note(f"stopped and saved: the same command goes on from {out}")
    return 130
