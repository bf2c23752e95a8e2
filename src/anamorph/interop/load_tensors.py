"""Copy foreign tensors into a model, by name."""

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

__all__ = ["TensorTarget", "as_is", "build_on_meta", "converted_tensors", "load_tensors"]

MAX_BLOCKS = 9
"""Resolutions of a model, from 4 to 1024."""
MAX_LISTED = 12
"""How many names of each kind an error lists."""


def as_is(value: Tensor) -> Tensor:
    """Return the tensor unchanged; axes of length one are adapted later."""
    return value


@dataclass(frozen=True)
class TensorTarget:
    """The parameter or buffer that a foreign tensor is copied to.

    Args:
        target: the parameter or buffer.
        convert: brings the foreign tensor to the target's shape, up to axes of length one.
        factor: multiplies the result.
    """

    target: Tensor
    convert: Callable[[Tensor], Tensor] = as_is
    factor: float = 1.0

    def converted(self, value: Tensor) -> Tensor | None:
        """Convert a foreign tensor; None if its shape does not fit."""
        try:
            value = self.convert(value)
        except (RuntimeError, IndexError, ValueError):
            return None
        expected, actual = ([n for n in shape if n != 1] for shape in (self.target.shape, value.shape))
        return value.reshape(self.target.shape) * self.factor if expected == actual else None


@torch.no_grad()
def load_tensors(tensor_targets: Mapping[str, TensorTarget], tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy foreign tensors to their tensor_targets; nothing is changed unless all of them fit; as `fitting`."""
    for name, value in converted_tensors(tensor_targets, tensors, where).items():
        tensor_targets[name].target.copy_(value)


@torch.no_grad()
def converted_tensors(
    tensor_targets: Mapping[str, TensorTarget], tensors: Mapping[str, Tensor], where: str
) -> dict[str, Tensor]:
    """Convert foreign tensors; the targets may be on the device "meta".

    Raises:
        UserError: lists every tensor that is missing, unknown, of another shape, or not finite.
    """
    missing = [name for name in tensor_targets if name not in tensors]
    extra = [f"{name} {_shape(t)}" for name, t in tensors.items() if name not in tensor_targets]
    ours = {name: place.converted(tensors[name]) for name, place in tensor_targets.items() if name in tensors}
    misshapen = [
        f"{name} {_shape(tensors[name])}, expected {_shape(tensor_targets[name].target)}"
        for name, t in ours.items()
        if t is None
    ]
    broken = [name for name, t in ours.items() if t is not None and not t.isfinite().all()]
    kinds = {"missing": missing, "not known": extra, "of another shape": misshapen, "not finite": broken}
    if any(kinds.values()):
        lists = "; ".join(f"{len(names)} {kind} ({_listed(names)})" for kind, names in kinds.items() if names)
        raise UserError(f"{where} does not fit: {lists}")
    return {name: t for name, t in ours.items() if t is not None}


def build_on_meta(name: str, image: Image, config: Any) -> LatentModel:
    """Build a model on the device "meta", to check that tensors fit before memory is allocated.

    Raises:
        UserError: for a model larger than any that has been published.
    """
    if max(image.height, image.width) > 4 << MAX_BLOCKS - 1:
        raise UserError(f"a model of {image} is larger than any published one (at most 1024x1024)")
    with torch.device("meta"):
        return build(name, image, config, 0, "meta")[0]


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _listed(names: list[str]) -> str:
    more = f", and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more
