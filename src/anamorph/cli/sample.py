"""`anamorph sample RUN --n 16`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import tyro

from anamorph.cli.options import Common, RunArgument, emit, parse
from anamorph.core.errors import UserError

__all__ = ["main"]


@dataclass(frozen=True)
class Sample(Common):
    """Draw new images, the same ones for the same seed, and write them as one picture."""

    run: RunArgument = tyro.MISSING
    """The run's folder."""
    n: int = 16
    """How many."""
    psi: float | None = None
    """Truncation: 1 leaves the codes as drawn, 0 gives their mean. For models that map."""
    noise: Literal["fixed", "off", "fresh"] = "fixed"
    """fixed: each code's own image. off: without noise. fresh: a sample of the images that the code stands for."""


def main(words: Sequence[str]) -> int:
    options = parse(Sample, "sample", words)
    if options.n < 1:
        raise UserError(f"--n must be at least 1, got {options.n}")

    from anamorph.core.model import Draws, Maps, require
    from anamorph.core.random import Seeded
    from anamorph.edit.truncate import truncate
    from anamorph.figures.grid import save_grid

    model = require(options.load(options.run), Draws, "sampling")
    with options.computing():
        codes = model.draw(options.n, Seeded(options.seed, "samples", device=options.device))
        if options.psi is not None:
            codes = truncate(codes, require(model, Maps, "truncation").centre, options.psi)
        fresh = Seeded(options.seed, "noise", device=options.device)
        images = model.decode(codes, fresh if options.noise == "fresh" else options.noise)
    path = options.out or options.run / "sample.png"
    save_grid(path, images)
    emit(options.json, f"{path}: {options.n} samples, seed {options.seed}", path=path, n=options.n, seed=options.seed)
    return 0
