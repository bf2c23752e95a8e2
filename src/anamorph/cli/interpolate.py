"""`anamorph interpolate RUN IMAGE IMAGE [IMAGE IMAGE]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import tyro

from anamorph.cli.options import Common, ImageArguments, RunArgument, emit, parse
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from anamorph.core.model import LatentModel

__all__ = ["main"]


@dataclass(frozen=True)
class Interpolate(Common):
    """Go from one image to another through the latent space: a strip between two images, a grid between four."""

    run: RunArgument = tyro.MISSING
    """The run's folder."""
    images: ImageArguments = ()
    """Two or four of: files, seed:7, data:12."""
    steps: int = 8
    """Images from one end to the other, both included."""
    space: Literal["w", "z"] = "w"
    """w: along a line between codes. z: along a great arc between the noises that seeds draw and the model maps."""


def main(words: Sequence[str]) -> int:
    options = parse(Interpolate, "interpolate", words)
    if len(options.images) not in (2, 4):
        raise UserError(f"interpolate between two images, or four (the corners of a grid); got {len(options.images)}")

    from anamorph.cli.picking import pick
    from anamorph.edit.interpolate import plane, strip
    from anamorph.figures.grid import save_grid

    model = options.load(options.run)
    with options.computing():
        if options.space == "z":
            images = _through_z(model, options.images, options.steps)
        else:
            ends = [{k: v[0] for k, v in p.codes.items()} for p in pick(model, options.run, options.images)]
            corners = len(ends) == 4
            codes = plane(ends, options.steps, options.steps) if corners else strip(ends[0], ends[1], options.steps)
            images = model.decode(codes)
    path = options.out or options.run / "interpolate.png"
    save_grid(path, images, columns=options.steps)
    emit(options.json, f"{path}: {len(images)} images between {', '.join(options.images)}", path=path, n=len(images))
    return 0


def _through_z(model: LatentModel, words: Sequence[str], steps: int) -> Tensor:
    import torch

    from anamorph.core.model import Maps, require
    from anamorph.core.random import Seeded
    from anamorph.edit.interpolate import slerp

    mapper = require(model, Maps, "interpolation in z")
    if len(words) != 2 or not all(word.startswith("seed:") and word[5:].isdigit() for word in words):
        raise UserError("in z one can only go between two seeds, as in seed:1 seed:2: images have no known z; use --space w")
    device = next(model.parameters()).device
    a, b = (Seeded(int(word[5:]), "seed", device=device).normal(1, *mapper.prior.shape)[0] for word in words)
    return mapper.decode(mapper.map(slerp(a, b, torch.linspace(0, 1, steps, device=device))))
