"""Going along directions, and what else changes on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from anamorph.core.model import Encodes, LatentModel, decode_in_chunks, encode_in_chunks
from anamorph.core.space import Codes, Space
from anamorph.edit.directions import Directions, flat, move
from anamorph.edit.layers import Layers

__all__ = ["changes", "leakage", "traversal"]


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
    model: Encodes, codes: Codes, directions: Directions, space: Space, step: float, layers: Layers | None = None
) -> Tensor:
    """What going `step` either way along each direction (rows) moves in the codes that the encoder finds in the images, [K, K]:
    how far along each direction (columns), as a share of the way gone; both in standard deviations.
    """
    k = len(directions)
    steps = torch.tensor([-step, step], device=codes[space.name].device)
    images = decode_in_chunks(model, traversal(codes, directions, steps, space, layers))
    ends = flat(encode_in_chunks(model, images)[space.name], space).unflatten(0, (-1, k, 2)).double()  # [B, K, 2, D]
    way = (ends[:, :, 1] - ends[:, :, 0]).mean(0)  # [K, D]
    return (way @ directions.vectors.T.to(way) / directions.scales.to(way) / (2 * step)).float()


def changes(
    model: LatentModel,
    codes: Codes,
    directions: Directions,
    space: Space,
    step: float,
    read: Callable[[Tensor], Mapping[str, Tensor]],
    layers: Layers | None = None,
) -> Tensor:
    """The share of images in which each thing that is read off them (columns, in order) is no longer the same, `step` either
    way along each direction (rows), [K, things]. read: classes [B] by name, of images [B, C, H, W]."""
    steps = torch.tensor([-step, 0.0, step], device=codes[space.name].device)
    found = read(decode_in_chunks(model, traversal(codes, directions, steps, space, layers)))
    columns = []
    for classes in found.values():
        seen = classes.unflatten(0, (-1, len(directions), 3))  # [B, K, 3]
        columns.append((seen[..., [0, 2]] != seen[..., 1:2]).float().mean((0, 2)))
    return torch.stack(columns, 1)
