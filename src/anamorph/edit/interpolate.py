"""Interpolation between codes."""

from __future__ import annotations

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.interpolation import lerp, lerp_codes, slerp
from anamorph.core.space import Codes

__all__ = ["lerp", "lerp_codes", "plane", "slerp", "strip"]


def strip(a: Codes, b: Codes, steps: int) -> Codes:
    """Interpolate from a to b in `steps` codes, including both.

    Raises: UserError for fewer than 2 steps, or codes that cannot be interpolated.
    """
    return lerp_codes(a, b, _fractions(steps, next(iter(a.values()))))


def plane(corners: list[Codes], rows: int, columns: int) -> Codes:
    """Interpolate codes [rows * columns, ...], row by row, between four corners.

    Args:
        corners: top left, top right, bottom left, bottom right.
        rows: at least 2.
        columns: at least 2.

    Raises: UserError for another number of corners, or as `strip`.
    """
    if len(corners) != 4:
        raise UserError(f"a plane has four corners, got {len(corners)}")
    left = strip(corners[0], corners[2], rows)
    right = strip(corners[1], corners[3], rows)
    lines = [strip({k: left[k][i] for k in left}, {k: right[k][i] for k in right}, columns) for i in range(rows)]
    return {name: torch.cat([line[name] for line in lines]) for name in left}


def _fractions(steps: int, like: Tensor) -> Tensor:
    if steps < 2:
        raise UserError(f"an interpolation has at least 2 steps, got {steps}")
    return torch.linspace(0, 1, steps, device=like.device)
