"""Grids of discrete codes: those of a point, a picture of each code, and how often each is used."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from anamorph.core.errors import UserError, nearest
from anamorph.core.model import Encodes, encode_in_chunks
from anamorph.core.space import Codes, Space
from anamorph.data.codes import CodeCounts
from anamorph.studio.bench import Bench
from anamorph.studio.image_media import atlas
from anamorph.studio.points import DecodeOptions, FromSeed, Point

__all__ = ["grids_of", "palette", "usage"]

ENCODED, SAMPLED = 256, 64
"""Held-out images, or else samples, over which the use of codes is counted."""
COLUMNS = 32
"""Pictures of codes in a row of the atlas."""
SIDE = 24
"""Pixels of a side of each."""


def _grid_space(bench: Bench, name: str) -> Space:
    """Return a space whose codes are a grid.

    Raises:
        UserError: if the model has no such space.
    """
    for space in bench.model.spaces:
        if space.name == name and space.num_codes is not None and len(space.shape) == 3:
            return space
    raise UserError(f"the model has no grid of codes {name!r}: {nearest(name, [s.name for s in bench.model.spaces])}")


def grids_of(bench: Bench, point: Point) -> dict[str, Any]:
    """Return a point's codes by space, as lists [maps][rows][columns]."""
    codes = bench.codes([point])
    return {name: value[0].tolist() for name, value in codes.items() if value.dim() == 4 and not value.is_floating_point()}


@torch.no_grad()
def palette(bench: Bench, point: Point, name: str) -> tuple[bytes, dict[str, Any]]:
    """Return an atlas with a picture of each code of a space, and its layout.

    A code's picture is the middle of the image that is decoded when the whole grid has this code. Other spaces have the
    point's codes.
    """
    space = _grid_space(bench, name)
    codes, patches = bench.codes([point]), []
    for ids in torch.arange(space.num_codes or 0).split(64):
        constant = ids.view(-1, 1, 1, 1).expand(-1, *space.shape)
        batch: Codes = {key: value.expand(len(ids), *value.shape[1:]) for key, value in codes.items()} | {name: constant}
        patches += [_middle_patch(image, space) for image in bench.decode(batch, DecodeOptions())]
    return atlas(patches, SIDE, COLUMNS), {"side": SIDE, "columns": COLUMNS, "count": len(patches)}


def _middle_patch(image: Tensor, space: Space) -> Tensor:
    """Return the patch of an image [C, H, W] that one place of the grid covers, in its middle."""
    _, height, width = image.shape
    h, w = max(1, height // space.shape[1]), max(1, width // space.shape[2])
    top, left = (height - h) // 2, (width - w) // 2
    return image[:, top : top + h, left : left + w]


@torch.no_grad()
def usage(bench: Bench, name: str) -> dict[str, Any]:
    """Count how often each code of a space is used in held-out images, or in samples of a model without an encoder."""
    space = _grid_space(bench, name)
    if isinstance(bench.model, Encodes):
        n = min(ENCODED, bench.data.size)
        codes = encode_in_chunks(bench.model, bench.held_out(0, n).signals)
    else:
        n = SAMPLED
        codes = bench.codes([FromSeed(seed=i) for i in range(n)])
    counts = CodeCounts.of(space, codes[name])
    return {"counts": list(counts.counts), "used": counts.used, "perplexity": counts.perplexity, "images": n}
