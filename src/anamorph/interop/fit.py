"""Bringing foreign tensors into a model, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from anamorph.core.errors import UserError

__all__ = ["Place", "as_is", "fit"]

SHOWN = 12
"""How many names of a kind an error lists before it counts."""


def as_is(value: Tensor) -> Tensor:
    """What is kept alike, but for axes of length one."""
    return value


@dataclass(frozen=True)
class Place:
    """Where a foreign tensor belongs. convert: turns it into ours, up to axes of length one. factor: multiplies it."""

    target: Tensor
    convert: Callable[[Tensor], Tensor] = as_is
    factor: float = 1.0

    def converted(self, value: Tensor) -> Tensor | None:
        """A foreign tensor as ours; None if its shape does not fit."""
        try:
            value = self.convert(value)
        except (RuntimeError, IndexError):
            return None
        wanted, found = ([n for n in shape if n != 1] for shape in (self.target.shape, value.shape))
        return value.reshape(self.target.shape) * self.factor if wanted == found else None


@torch.no_grad()
def fit(places: Mapping[str, Place], tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy foreign tensors to their places; nothing is changed unless all of them fit.

    Raises: UserError listing every tensor that is missing, that has no place, or whose shape does not fit.
    """
    missing = [name for name in places if name not in tensors]
    extra = [f"{name} {_shape(t)}" for name, t in tensors.items() if name not in places]
    fitting = {name: place.converted(tensors[name]) for name, place in places.items() if name in tensors}
    misshapen = [
        f"{name} {_shape(tensors[name])}, wanted {_shape(places[name].target)}" for name, t in fitting.items() if t is None
    ]
    broken = [name for name, t in fitting.items() if t is not None and not t.isfinite().all()]
    kinds = {"missing": missing, "not known": extra, "of another shape": misshapen, "not finite": broken}
    if any(kinds.values()):
        lists = "; ".join(f"{len(names)} {kind} ({_listed(names)})" for kind, names in kinds.items() if names)
        raise UserError(f"{where} does not fit: {lists}")
    for name, value in fitting.items():
        assert value is not None
        places[name].target.copy_(value)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _listed(names: list[str]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
