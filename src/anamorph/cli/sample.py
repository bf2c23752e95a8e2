"""`anamorph sample RUN --n 16`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import tyro

from anamorph.cli.options import Common, RunArgument, emit, parse
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from anamorph.core.model import Maps

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
    cutoff: int | None = None
    """Truncate only so many layers, from the coarsest on (8 in StyleGAN's figures); by default all. For models with layers."""
    noise: Literal["fixed", "off", "fresh"] = "fixed"
    """fixed: each code's own image. off: without noise. fresh: a sample of the images that the code stands for."""


def main(words: Sequence[str]) -> int:
    options = parse(Sample, "sample", words)
    if options.n < 1:
        raise UserError(f"--n must be at least 1, got {options.n}")
    if options.cutoff is not None and options.psi is None:
        raise UserError("--cutoff says how many layers --psi acts on: give --psi, too")

    from anamorph.core.model import Draws, Maps, decode_in_parts, require
    from anamorph.core.random import Seeded
    from anamorph.edit.truncate import truncate
    from anamorph.figures.grid import save_grid

    model = require(options.load(options.run), Draws, "sampling")
    with options.computing():
        codes = model.draw(options.n, Seeded(options.seed, "samples", device=options.device))
        if options.psi is not None:
            mapper = require(model, Maps, "truncation")
            _check_cutoff(mapper, options.cutoff)
            codes = truncate(codes, mapper.centre, options.psi, options.cutoff)
        if options.noise == "fresh":
            images = model.decode(codes, Seeded(options.seed, "noise", device=options.device))
        else:
            images = decode_in_parts(model, codes, options.noise)
    path = options.out or options.run / "sample.png"
    save_grid(path, images)
    emit(options.json, f"{path}: {options.n} samples, seed {options.seed}", path=path, n=options.n, seed=options.seed)
    return 0


def _check_cutoff(model: Maps, cutoff: int | None) -> None:
    layers = model.spaces[0].shape[0] if model.spaces[0].layered else 0
    if cutoff is not None and not 0 <= cutoff <= layers:
        raise UserError(f"this model has {layers or 'no'} layers of codes; got --cutoff {cutoff}")
