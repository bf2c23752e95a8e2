"""Ways between codes."""

from __future__ import annotations

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.space import Codes

__all__ = ["lerp", "lerp_codes", "plane", "slerp", "strip"]


def lerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The points [T, ...] at t [T] on the line from a to b; its ends are exact."""
    t = t.view(-1, *[1] * a.dim())
    return torch.where(t < 0.5, a + t * (b - a), b - (1 - t) * (b - a))


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The points [T, ...] at t [T] on the great arc from a to b, for codes of a Gaussian law, whose length matters.

    Shoemake 1985, doi:10.1145/325334.325242. The length goes evenly from that of a to that of b. Codes that point the same
    way, or opposite ways, are joined by a line.
    """
    length_a, length_b = a.norm(), b.norm()
    cosine = (a * b).sum() / (length_a * length_b)
    if not bool(cosine.abs() < 0.9999):
        return lerp(a, b, t)
    angle = torch.acos(cosine)
    t = t.view(-1, *[1] * a.dim())
    direction = (torch.sin((1 - t) * angle) * a / length_a + torch.sin(t * angle) * b / length_b) / torch.sin(angle)
    between = direction * ((1 - t) * length_a + t * length_b)
    return torch.where(t == 0, a, torch.where(t == 1, b, between))


def lerp_codes(a: Codes, b: Codes, t: Tensor) -> Codes:
    """Codes [T, ...] on the lines between two codes [...], space by space.

    Raises: UserError for whole-number codes, which have no points between them.
    """
    if a.keys() != b.keys():
        raise UserError(f"codes of different spaces: {', '.join(a)} and {', '.join(b)}")
    for name, value in a.items():
        if not value.is_floating_point():
            raise UserError(f"codes of {name!r} are whole numbers: there is nothing between them")
    return {name: lerp(a[name], b[name], t) for name in a}


def strip(a: Codes, b: Codes, steps: int) -> Codes:
    """`steps` codes from a to b, both included."""
    return lerp_codes(a, b, _fractions(steps, next(iter(a.values()))))


def plane(corners: list[Codes], rows: int, columns: int) -> Codes:
    """Codes [rows * columns, ...], row by row, between four corners: top left, top right, bottom left, bottom right."""
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
