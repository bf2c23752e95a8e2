"""Inpainting: a part of an image is sampled anew by the model's prior, given the codes of the rest."""

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

__all__ = ["inpaint", "known_code_masks"]


def known_code_masks(mask: Tensor, spaces: Sequence[Space]) -> dict[str, Tensor]:
    """Return which codes remain, by space: true [1, *space.shape] at grid positions that the mask does not touch.

    Args:
        mask: true where the image is to be sampled anew [H, W].
        spaces: grids of codes.

    Raises: UserError if the mask is empty or touches every code, or if a space is no grid of codes.
    """
    for space in spaces:
        if space.num_codes is None or len(space.shape) != 3:
            raise UserError(f"inpainting needs a model whose codes are grids of whole numbers, and this one has {space}")
    region = mask.float()[None, None]
    if not bool(region.any()):
        raise UserError("the mask is empty: mark what is to be sampled anew (white in a mask image)")
    known = {}
    for space in spaces:
        touched = adaptive_max_pool2d(region, space.shape[-2:])[0] > 0  # [1, h, w]
        known[space.name] = ~touched.expand(space.shape)[None]
    if not any(bool(remains.any()) for remains in known.values()):
        raise UserError("the mask touches every code: sample whole images instead, or mark less")
    return known


@torch.no_grad()
def inpaint(
    model: HasPrior,
    codes: Codes,
    mask: Tensor,
    n: int,
    random: Random,
    settings: SamplingSettings | None = None,
    progress: Progress = no_progress,
) -> Codes:
    """Sample the marked part of one image n times, and return the codes of the n images.

    Each code is sampled given those above and to the left of it: known codes below or to the right have no influence on it.

    Args:
        model: has a prior over grids of codes.
        codes: of one image, by space [1, *space.shape].
        mask: true where the image is to be sampled anew [H, W].
        n: number of samples.
        random: for sampling.
        settings: temperature, top-k and top-p.
        progress: called with the number of positions that are done, and of all.

    Raises: UserError as `known_code_masks`.
    """
    repeated = {name: value.expand(n, *value.shape[1:]) for name, value in codes.items()}
    known = {name: remains.to(codes[name].device) for name, remains in known_code_masks(mask, model.spaces).items()}
    return model.sample_codes(n, random, None, settings, InpaintingMask(repeated, known), progress)
