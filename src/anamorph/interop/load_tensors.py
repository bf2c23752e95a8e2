"""Bringing foreign tensors into a model, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anamorph.catalog import build
from anamorph.core.errors import UserError
from anamorph.core.model import LatentModel
from anamorph.core.signal import Image

__all__ = ["Place", "as_is", "build_on_meta", "converted_tensors", "load_tensors"]

MOST_BLOCKS = 9
"""Resolutions of a model, 4 to 1024."""
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
        except (RuntimeError, IndexError, ValueError):
            return None
        wanted, found = ([n for n in shape if n != 1] for shape in (self.target.shape, value.shape))
        return value.reshape(self.target.shape) * self.factor if wanted == found else None


@torch.no_grad()
def load_tensors(places: Mapping[str, Place], tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy foreign tensors to their places; nothing is changed unless all of them fit; as `fitting`."""
    for name, value in converted_tensors(places, tensors, where).items():
        places[name].target.copy_(value)


@torch.no_grad()
def converted_tensors(places: Mapping[str, Place], tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Foreign tensors as ours; the places may be those of a model without memory (on the device "meta").

    Raises: UserError listing every tensor that is missing, that has no place, whose shape does not fit, or is not finite.
    """
    missing = [name for name in places if name not in tensors]
    extra = [f"{name} {_shape(t)}" for name, t in tensors.items() if name not in places]
    ours = {name: place.converted(tensors[name]) for name, place in places.items() if name in tensors}
    misshapen = [
        f"{name} {_shape(tensors[name])}, wanted {_shape(places[name].target)}" for name, t in ours.items() if t is None
    ]
    broken = [name for name, t in ours.items() if t is not None and not t.isfinite().all()]
    kinds = {"missing": missing, "not known": extra, "of another shape": misshapen, "not finite": broken}
    if any(kinds.values()):
        lists = "; ".join(f"{len(names)} {kind} ({_listed(names)})" for kind, names in kinds.items() if names)
        raise UserError(f"{where} does not fit: {lists}")
    return {name: t for name, t in ours.items() if t is not None}


def build_on_meta(name: str, image: Image, config: Any) -> LatentModel:
    """A model that takes no memory, to see whether tensors fit before any is set aside for them.

    Raises: UserError for a model larger than any that has been published.
    """
    if max(image.height, image.width) > 4 << MOST_BLOCKS - 1:
        raise UserError(f"a model of {image} is larger than any that is known: this is no such file")
    with torch.device("meta"):
        return build(name, image, config, 0, "meta")[0]


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _listed(names: list[str]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
