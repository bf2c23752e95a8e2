"""Going along directions, and what else changes on the way."""

from __future__ import annotations

import torch
from torch import Tensor

from anamorph.core.model import Encodes, LatentModel, decode_in_parts
from anamorph.core.space import Codes, Space
from anamorph.edit.directions import Directions, flat, move
from anamorph.edit.layers import Layers

__all__ = ["leakage", "traversal"]


def traversal(codes: Codes, directions: Directions, steps: Tensor, space: Space, layers: Layers | None = None) -> Codes:
    """Codes [B * K * T, ...]: each of B codes, moved along each of K directions, by each of T steps (in standard deviations);
    the steps run fastest, then the directions."""
    t = len(steps)
    ways = []
    for which in range(len(directions)):
        many = {name: value.repeat_interleave(t, 0) for name, value in codes.items()}
        ways.append(move(many, directions, which, steps.repeat(len(next(iter(codes.values())))), space, layers))
    b, k = len(next(iter(codes.values()))), len(directions)
    return {
        name: torch.stack([way[name].unflatten(0, (b, t)) for way in ways], 1).reshape(b * k * t, *codes[name].shape[1:])
        for name in codes
    }


def leakage(
    model: LatentModel, codes: Codes, directions: Directions, space: Space, step: float, layers: Layers | None = None
) -> Tensor:
    """What going `step` either way along each direction (rows) moves, [K, K + 1]: how far along each direction, in standard
    deviations, as a share of the way gone; and in the last column the root mean square change of pixels.

    With an encoder, of the code that it finds in the image again; without one, of the code itself, which tells only how
    far directions are from being at right angles.
    """
    steps = torch.tensor([-step, step], device=codes[space.name].device)
    moved = traversal(codes, directions, steps, space, layers)
    images = decode_in_parts(model, moved)
    k = len(directions)
    found = model.encode(images)[space.name] if isinstance(model, Encodes) else moved[space.name]
    ends = flat(found, space).unflatten(0, (-1, k, 2))  # [B, K, 2, D]
    way = (ends[:, :, 1] - ends[:, :, 0]).mean(0)  # [K, D]
    vectors, scales = directions.vectors.to(way), directions.scales.to(way)
    pixels = images.unflatten(0, (-1, k, 2))
    change = (pixels[:, :, 1] - pixels[:, :, 0]).square().mean((0, 2, 3, 4)).sqrt()
    return torch.cat([way @ vectors.T / scales / (2 * step), change[:, None]], 1)
