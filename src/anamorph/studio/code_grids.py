"""Discrete codes as something to look at: the grids of a point, what each code stands for, and how often it is used."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.model import Encodes, encode_in_chunks
from anamorph.core.space import Codes, Space
from anamorph.data.codes import CodeCounts
from anamorph.studio.bench import Bench
from anamorph.studio.image_media import atlas
from anamorph.studio.points import DecodeOptions, FromSeed, Point

__all__ = ["grids_of", "palette", "usage"]

COUNTED = 256
"""Images over which the use of codes is counted."""
COLUMNS = 32
SIDE = 24
"""Pixels of a patch in the palette."""


def _space(bench: Bench, name: str) -> Space:
    for space in bench.model.spaces:
        if space.name == name and space.num_codes is not None and len(space.shape) == 3:
            return space
    raise UserError(f"there is no grid of codes {name!r}")


def grids_of(bench: Bench, point: Point) -> dict[str, Any]:
    """The numbers of a point's grids, by space: [maps][rows][columns]."""
    codes = bench.codes([point])
    return {name: value[0].tolist() for name, value in codes.items() if value.dim() == 4 and not value.is_floating_point()}


@torch.no_grad()
def palette(bench: Bench, point: Point, name: str) -> tuple[bytes, dict[str, Any]]:
    """What each code of a space stands for: the middle of the image in which the whole grid holds it, the other spaces being as
    the point has them. As an atlas, and its layout."""
    space = _space(bench, name)
    codes, patches = bench.codes([point]), []
    for ids in torch.arange(space.num_codes or 0).split(64):
        everywhere = ids.view(-1, 1, 1, 1).expand(-1, *space.shape)
        many: Codes = {key: value.expand(len(ids), *value.shape[1:]) for key, value in codes.items()} | {name: everywhere}
        patches += [_middle(image, space) for image in bench.decode(many, DecodeOptions())]
    return atlas(patches, SIDE, COLUMNS), {"side": SIDE, "columns": COLUMNS, "count": len(patches)}


def _middle(image: Tensor, space: Space) -> Tensor:
    """The patch of an image [C, H, W] that one place of the grid covers, from its middle."""
    _, height, width = image.shape
    h, w = max(1, height // space.shape[1]), max(1, width // space.shape[2])
    top, left = (height - h) // 2, (width - w) // 2
    return image[:, top : top + h, left : left + w]


@torch.no_grad()
def usage(bench: Bench, name: str) -> dict[str, Any]:
    """How often each code of a space is used in held-out images, or, where there are none, in drawn ones."""
    space = _space(bench, name)
    if isinstance(bench.model, Encodes):
        n = min(COUNTED, bench.data.size)
        codes = encode_in_chunks(bench.model, bench.held_out(0, n).signals)
    else:
        n = 64
        codes = bench.codes([FromSeed(seed=i) for i in range(n)])
    counted = CodeCounts.of(space, codes[name])
    return {"counts": list(counted.counts), "used": counted.used, "perplexity": counted.perplexity, "images": n}
