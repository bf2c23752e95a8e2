"""The running average of a model's weights: what is sampled, measured and loaded."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["Average"]

M = TypeVar("M", bound=nn.Module)


class Average(Generic[M]):
    """A copy of a model that follows it with a half-life in images; buffers are copied, not averaged.

    It starts as the model is initialised, as StyleGAN's does (Karras et al. 2017, arXiv:1710.10196, appendix A.2).
    """

    def __init__(self, model: M, half_life: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.half_life = half_life
        self._mine: list[Tensor] = [*self.model.parameters()]
        self._its: list[Tensor] = [*model.parameters()]
        self._buffers = list(zip(self.model.buffers(), model.buffers(), strict=True))

    @torch.no_grad()
    def follow(self, images: int) -> None:
        """Move towards the model, after it has seen that many more images."""
        weight = 1 - 0.5 ** (images / self.half_life)
        if torch.compiler.is_compiling():  # one by one: a compiler joins each to what moved the weight
            for mine, its in zip(self._mine, self._its, strict=True):
                mine.lerp_(its, weight)
        else:
            torch._foreach_lerp_(self._mine, self._its, weight)
        for mine, its in self._buffers:
            mine.copy_(its)
