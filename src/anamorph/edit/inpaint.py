"""Drawing a part of an image anew: its codes are kept where the image is to stay."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from anamorph.core.errors import UserError
from anamorph.core.model import HasPrior
from anamorph.core.prior import InpaintingMask, SamplingSettings
from anamorph.core.progress import Progress, no_progress
from anamorph.core.random import Random
from anamorph.core.space import Codes, Space

__all__ = ["inpaint", "kept_masks"]


def kept_masks(redrawn: Tensor, spaces: Sequence[Space]) -> dict[str, Tensor]:
    """Which codes are kept [1, *space.shape], by space: those of grid places that no pixel of a mask [H, W] touches.

    Raises: UserError if the mask leaves everything, or nothing.
    """
    for space in spaces:
        if space.num_codes is None or len(space.shape) != 3:
            raise UserError(f"a part is drawn anew on a grid of codes, and this model has {space}")
    marked = redrawn.float()[None, None]
    if not bool(marked.any()):
        raise UserError("the mask is black all over: paint white what is to be drawn anew")
    found = {}
    for space in spaces:
        touched = adaptive_max_pool2d(marked, space.shape[-2:])[0] > 0  # [1, h, w]
        found[space.name] = ~touched.expand(space.shape)[None]
    if not any(bool(kept.any()) for kept in found.values()):
        raise UserError("the mask touches every code: `anamorph sample` draws whole images")
    return found


@torch.no_grad()
def inpaint(
    model: HasPrior,
    codes: Codes,
    redrawn: Tensor,
    n: int,
    random: Random,
    settings: SamplingSettings | None = None,
    progress: Progress = no_progress,
) -> Codes:
    """n draws of the codes of one image {name: [1, ...]}, anew where a mask [H, W] is true.

    A code is drawn given those above and to the left of it alone: what is kept below does not steer it.
    """
    many = {name: value.expand(n, *value.shape[1:]) for name, value in codes.items()}
    masks = {name: kept.to(codes[name].device) for name, kept in kept_masks(redrawn, model.spaces).items()}
    return model.sample_codes(n, random, None, settings, InpaintingMask(many, masks), progress)
