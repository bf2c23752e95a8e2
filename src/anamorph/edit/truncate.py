"""Truncation: codes drawn towards the mean, which trades variety for typicality."""

from __future__ import annotations

import torch

from anamorph.core.errors import UserError
from anamorph.core.space import Codes

__all__ = ["truncate"]


def truncate(codes: Codes, centre: Codes, psi: float, layers: int | None = None) -> Codes:
    """centre + psi * (codes - centre), for every space that has a centre (Karras et al. 2018, arXiv:1812.04948, appendix B).

    layers: in layered spaces, only so many, from the coarsest on; more than there are mean all.
    Raises: UserError if psi is not finite, or layers is negative.
    """
    if not torch.isfinite(torch.tensor(psi)):
        raise UserError(f"psi must be a finite number, got {psi}")
    if layers is not None and layers < 0:
        raise UserError(f"a number of layers cannot be negative, got {layers}")
    out = dict(codes)
    for name, middle in centre.items():
        moved = middle + psi * (codes[name] - middle)
        if layers is not None:
            moved = torch.cat([moved[:, :layers], codes[name][:, layers:]], 1)
        out[name] = moved
    return out
