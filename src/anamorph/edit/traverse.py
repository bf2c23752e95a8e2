"""Moving codes along directions, and measuring what else changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from anamorph.core.model import Encodes, LatentModel, decode_in_chunks, encode_in_chunks
from anamorph.core.space import Codes, Space
from anamorph.edit.directions import Directions, flat, move
from anamorph.edit.layers import Layers

__all__ = ["change_rates", "leakage", "traversal"]


def traversal(codes: Codes, directions: Directions, steps: Tensor, space: Space, layers: Layers | None = None) -> Codes:
    """Move each of B codes along each of K directions by each of T steps.

    Args:
        codes: by space [B, ...].
        directions: K of them.
        steps: in standard deviations [T].
        space: the space of the directions.
        layers: those that are moved, instead of the directions' own.

    Returns: codes [B * K * T, ...]; steps run fastest, then directions.
    """
    b, k, t = len(next(iter(codes.values()))), len(directions), len(steps)
    repeated = {name: value.repeat_interleave(t, 0) for name, value in codes.items()}
    moved = [move(repeated, directions, i, steps.repeat(b), space, layers) for i in range(k)]
    return {
        name: torch.stack([along[name].unflatten(0, (b, t)) for along in moved], 1).reshape(b * k * t, *codes[name].shape[1:])
        for name in codes
    }


def leakage(
    model: Encodes, codes: Codes, directions: Directions, space: Space, step: float, layers: Layers | None = None
) -> Tensor:
    """Measure how far re-encoded codes move along each direction (columns) when codes are moved along one (rows) [K, K].

    Codes are moved by `step` standard deviations to either side, decoded and encoded again. An entry is the movement of the
    encoder's codes, in standard deviations, divided by 2 * step: the identity matrix would be perfect.
    """
    k = len(directions)
    steps = torch.tensor([-step, step], device=codes[space.name].device)
    images = decode_in_chunks(model, traversal(codes, directions, steps, space, layers))
    ends = flat(encode_in_chunks(model, images)[space.name], space).unflatten(0, (-1, k, 2)).double()  # [B, K, 2, D]
    movement = (ends[:, :, 1] - ends[:, :, 0]).mean(0)  # [K, D]
    return (movement @ directions.vectors.T.to(movement) / directions.scales.to(movement) / (2 * step)).float()


def change_rates(
    model: LatentModel,
    codes: Codes,
    directions: Directions,
    space: Space,
    step: float,
    classify: Callable[[Tensor], Mapping[str, Tensor]],
    layers: Layers | None = None,
) -> Tensor:
    """Measure the share of images whose class changes when codes are moved along a direction.

    Args:
        model: decodes the codes.
        codes: by space [B, ...].
        directions: K of them.
        space: the space of the directions.
        step: moved to either side, in standard deviations.
        classify: gives classes [B] of images [B, C, H, W], by the name of the attribute.
        layers: those that are moved, instead of the directions' own.

    Returns: shares [K, attributes], in the order of the attributes.
    """
    steps = torch.tensor([-step, 0.0, step], device=codes[space.name].device)
    attributes = classify(decode_in_chunks(model, traversal(codes, directions, steps, space, layers)))
    columns = []
    for classes in attributes.values():
        by_step = classes.unflatten(0, (-1, len(directions), 3))  # [B, K, 3]
        columns.append((by_step[..., [0, 2]] != by_step[..., 1:2]).float().mean((0, 2)))
    return torch.stack(columns, 1)
