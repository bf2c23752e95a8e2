"""Truncation: codes are moved towards their mean, which trades diversity for fidelity."""

from __future__ import annotations

import math

import torch

from anamorph.core.errors import UserError
from anamorph.core.space import Codes
from anamorph.edit.layers import Layers, check_layers

__all__ = ["truncate"]


def truncate(codes: Codes, mean: Codes, psi: float, layers: int | Layers | None = None) -> Codes:
    """Return mean + psi * (codes - mean), for every space that has a mean (Karras et al. 2018, arXiv:1812.04948, appendix B).

    Args:
        codes: by space [B, *space.shape].
        mean: by space [*space.shape]; other spaces stay as they are.
        psi: 1 changes nothing, 0 gives the mean.
        layers: truncate only these layers of layered codes, or this number of the coarsest ones; None: all.

    Raises: UserError if psi is not finite, a number of layers is negative, or codes without layers are truncated by layer.
    """
    if not math.isfinite(psi):
        raise UserError(f"psi must be a finite number, got {psi}")
    if isinstance(layers, int) and layers < 0:
        raise UserError(f"the number of truncated layers must be at least 0, got {layers}")
    out = dict(codes)
    for name, centre in mean.items():
        moved = centre + psi * (codes[name] - centre)
        if layers is not None:
            if codes[name].dim() < 3:
                raise UserError(f"codes of {name!r} have no layers: truncate them without choosing layers")
            chosen = torch.zeros(codes[name].shape[1], 1, dtype=torch.bool, device=moved.device)
            chosen[slice(layers) if isinstance(layers, int) else check_layers(layers, len(chosen))] = True
            moved = torch.where(chosen, moved, codes[name])
        out[name] = moved
    return out
