"""Style mixing: some layers of one image's codes, and the others of another's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.interpolation import check_interpolable
from anamorph.core.space import Codes, Space
from anamorph.edit.layers import Layers, check_layers, layered

__all__ = ["every_pair", "lerp_towards", "mix"]


def mix(codes: Codes, source: Codes, layers: Layers, spaces: Sequence[Space]) -> Codes:
    """Return codes with some layers taken from the source (Karras et al. 2018, section 3.1).

    Args:
        codes: of B examples.
        source: codes of as many examples.
        layers: those taken from the source.
        spaces: the model's spaces.

    Raises: UserError if no space of the codes is layered, or it does not have these layers.
    """
    space = layered([space for space in spaces if space.name in codes])
    chosen = torch.zeros(space.shape[0], 1, dtype=torch.bool, device=codes[space.name].device)
    chosen[check_layers(layers, space.shape[0])] = True
    return {**codes, space.name: torch.where(chosen, source[space.name], codes[space.name])}


def lerp_towards(codes: Codes, source: Codes, share: float) -> Codes:
    """Interpolate from codes (share 0) to the source (share 1); whole numbers are switched half-way.

    Raises:
        UserError: if all codes are whole numbers, or the share is not finite.
    """
    if not torch.isfinite(torch.tensor(share)):
        raise UserError(f"a share is a finite number, got {share}")
    check_interpolable(codes)
    return {name: _between(value, source[name], share) for name, value in codes.items()}


def _between(a: Tensor, b: Tensor, share: float) -> Tensor:
    if not a.is_floating_point():
        return a if share < 0.5 else b
    return a + share * (b - a) if share < 0.5 else b - (1 - share) * (b - a)


def every_pair(rows: Codes, columns: Codes) -> tuple[Codes, Codes]:
    """Return the codes of each cell's row and of its column in a table, row by row, [R * C, ...] each."""
    n, m = (len(next(iter(codes.values()))) for codes in (rows, columns))
    return (
        {name: value.repeat_interleave(m, 0) for name, value in rows.items()},
        {name: value.repeat(n, *[1] * (value.dim() - 1)) for name, value in columns.items()},
    )
