"""The running average of a model's weights: what is sampled, measured and loaded."""

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
"""Of the images seen: the half-life at most."""


class EMA(Generic[M]):
    """A copy of a model that follows it with a half-life in images; buffers are copied, not averaged.

    As StyleGAN's (Karras et al. 2017, arXiv:1710.10196, appendix A.2), but for the beginning: the half-life is never more than
    a share of the images seen, without which what is loaded of a short run, or of a level that is new, would be a mixture with
    weights that have not been trained (as in the code of Karras et al. 2020, arXiv:2006.06676).
    """

    def __init__(self, model: M, half_life: float = HALF_LIFE) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.half_life = half_life
        self._mine: list[Tensor] = [*self.model.parameters()]
        self._its: list[Tensor] = [*model.parameters()]
        self._buffers = list(zip(self.model.buffers(), model.buffers(), strict=True))

    def weight(self, images: int, seen: int) -> float:
        """How far to move towards the model, after it has seen that many images, and so many before."""
        return 1 - 0.5 ** (images / min(self.half_life, RAMPUP * (seen + images)))

    @torch.no_grad()
    def update(self, weight: float | Tensor) -> None:
        """Move towards the model by a share of the way; a tensor, where it is compiled."""
        if isinstance(weight, Tensor):  # one by one: a compiler joins each to what moved the weight
            for mine, its in zip(self._mine, self._its, strict=True):
                mine.lerp_(its, weight)
        else:
            torch._foreach_lerp_(self._mine, self._its, weight)
        for mine, its in self._buffers:
            mine.copy_(its)
