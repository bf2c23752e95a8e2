"""Points between codes, on lines and on great arcs."""

from __future__ import annotations

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.space import Codes

__all__ = ["check_interpolable", "lerp", "lerp_codes", "slerp"]


def lerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Return the points [T, ...] at t [T] on the line from a to b; the ends are exact.

    Whole numbers have nothing between them: the nearer end is taken.
    """
    t = t.view(-1, *[1] * a.dim())
    if not a.is_floating_point():
        return torch.where(t < 0.5, a, b)
    return torch.where(t < 0.5, a + t * (b - a), b - (1 - t) * (b - a))


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Return the points [T, ...] at t [T] on the great arc from a to b, for Gaussian codes, whose length matters.

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
    """Return codes [T, ...] between two codes [...], space by space: real ones on a line, whole numbers switched half-way.

    Raises:
        UserError: if the codes are of different spaces, or no space is real.
    """
    if a.keys() != b.keys():
        raise UserError(f"codes of different spaces: {', '.join(a)} and {', '.join(b)}")
    check_interpolable(a)
    return {name: lerp(a[name], b[name], t) for name in a}


def check_interpolable(codes: Codes) -> None:
    """Raise a UserError if all codes are whole numbers, between which there is nothing."""
    if not any(value.is_floating_point() for value in codes.values()):
        raise UserError(f"codes of {', '.join(map(repr, codes))} are whole numbers: there is nothing between them")
