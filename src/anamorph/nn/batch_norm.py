"""Batch normalisation whose running statistics are gathered in the forward pass and take effect once per step.

Ioffe and Szegedy 2015, arXiv:1502.03167, algorithms 1 and 2. A model that uses it must see a batch whole: its recipe has the
group size None, so that statistics are never those of a micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from anamorph.core.precision import autocast_off

__all__ = ["BatchNorm", "batch_norm_commits"]


class BatchNorm(nn.Module):
    """Normalise features [B, C, ...] over the batch and all positions; in evaluation, by running statistics.

    Args:
        channels: C.
        momentum: weight of the old running statistics in a commit, in [0, 1].
        eps: added to the variance.
    """

    mean: Tensor
    variance: Tensor
    new_mean: Tensor
    new_variance: Tensor
    passes: Tensor

    def __init__(self, channels: int, momentum: float = 0.9, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.register_buffer("new_mean", torch.zeros(channels), persistent=False)
        self.register_buffer("new_variance", torch.zeros(channels), persistent=False)
        self.register_buffer("passes", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *(1 for _ in x.shape[2:]))
        with autocast_off(x):
            wide = x.float()
            mean, variance = self.mean, self.variance
            if self.training:
                axes = (0, *range(2, x.dim()))
                mean, variance = wide.mean(axes), wide.var(axes, correction=0)
                self._gather(mean.detach(), variance.detach())
            scale = self.weight * (variance + self.eps).rsqrt()
            return ((wide - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)).to(x.dtype)

    @torch.no_grad()
    def _gather(self, mean: Tensor, variance: Tensor) -> None:
        self.new_mean.add_(mean)
        self.new_variance.add_(variance)
        self.passes.add_(1)

    @torch.no_grad()
    def commit(self) -> None:
        """Move the running statistics towards the mean of those that were gathered; nothing changes if there are none."""
        weight = (1 - self.momentum) * (self.passes > 0)
        passes = self.passes.clamp(min=1)
        self.mean.lerp_(self.new_mean / passes, weight)
        self.variance.lerp_(self.new_variance / passes, weight)
        for gathered in (self.new_mean, self.new_variance, self.passes):
            gathered.zero_()


def batch_norm_commits(module: nn.Module) -> tuple[Callable[[], None], ...]:
    """Return the commits of all batch normalisations in a module, for the phases that run it."""
    return tuple(layer.commit for layer in module.modules() if isinstance(layer, BatchNorm))
