"""Truncation: codes drawn towards the mean, which trades variety for typicality."""

from __future__ import annotations

import math

import torch

from anamorph.core.errors import UserError
from anamorph.core.space import Codes
from anamorph.edit.layers import Layers, check_layers

__all__ = ["truncate"]


def truncate(codes: Codes, mean: Codes, psi: float, layers: int | Layers | None = None) -> Codes:
    """centre + psi * (codes - centre), for every space that has a centre (Karras et al. 2018, arXiv:1812.04948, appendix B).

    layers: in layered spaces, only these; or so many, from the coarsest on (more than there are mean all).
    Raises: UserError if psi is not finite, a number of layers is negative, or the codes have no layers to choose from.
    """
    if not math.isfinite(psi):
        raise UserError(f"psi must be a finite number, got {psi}")
    if isinstance(layers, int) and layers < 0:
        raise UserError(f"a number of layers cannot be negative, got {layers}")
    out = dict(codes)
    for name, middle in mean.items():
        moved = middle + psi * (codes[name] - middle)
        if layers is not None:
            if codes[name].dim() < 3:
                raise UserError(f"codes of {name!r} have no layers to choose from: truncate them whole")
            chosen = torch.zeros(codes[name].shape[1], 1, dtype=torch.bool, device=moved.device)
            chosen[slice(layers) if isinstance(layers, int) else check_layers(layers, len(chosen))] = True
            moved = torch.where(chosen, moved, codes[name])
        out[name] = moved
    return out
