"""An exponential moving average (EMA) of a model's weights: the model that is sampled, measured and loaded."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["EMA"]

M = TypeVar("M", bound=nn.Module)
HALF_LIFE = 10_000.0
"""In images."""
RAMPUP = 0.05
"""The half-life is at most this share of the images seen."""


class EMA(Generic[M]):
    """A copy of a model whose weights follow it with a half-life in images; buffers are copied, not averaged.

    As in Karras et al. 2017, arXiv:1710.10196, appendix A.2, but for the beginning: the half-life is at most a share of the
    images seen, as in the code of Karras et al. 2020, arXiv:2006.06676. Otherwise a short run, or a level that is new, would be
    a mixture with weights that have not been trained.

    Args:
        model: what is averaged.
        half_life: in images.
    """

    def __init__(self, model: M, half_life: float = HALF_LIFE) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.half_life = half_life
        self._averages: list[Tensor] = [*self.model.parameters()]
        self._weights: list[Tensor] = [*model.parameters()]
        self._buffers = list(zip(self.model.buffers(), model.buffers(), strict=True))

    def weight(self, images: int, seen: int) -> float:
        """Return the weight of the model in the average after a step over `images`, when `seen` images came before."""
        return 1 - 0.5 ** (images / min(self.half_life, RAMPUP * (seen + images)))

    @torch.no_grad()
    def update(self, weight: float | Tensor) -> None:
        """Move the average towards the model; the weight is a tensor in compiled steps."""
        if isinstance(weight, Tensor):  # one by one: a compiler joins each to what has moved the weight
            for average, current in zip(self._averages, self._weights, strict=True):
                average.lerp_(current, weight)
        else:
            torch._foreach_lerp_(self._averages, self._weights, weight)
        for average, current in self._buffers:
            average.copy_(current)
