"""Statistics that a loss gathers while it runs and that take effect once per step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anamorph.core.parallel import sum_over_processes

__all__ = ["RunningMean", "WarmUp"]


class RunningMean(nn.Module):
    """An exponential mean [*shape] of the tensors it is shown: `gather` collects them, `commit` moves the mean once.

    beta: how much of the old mean a commit keeps.
    """

    mean: Tensor
    total: Tensor
    count: Tensor

    def __init__(self, *shape: int, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("total", torch.zeros(shape), persistent=False)
        self.register_buffer("count", torch.zeros(()), persistent=False)

    @torch.no_grad()
    def gather(self, shown: Tensor) -> None:
        """Take tensors [B, *shape] into account at the next commit."""
        self.total.add_(shown.sum(0))
        self.count.add_(len(shown))

    @torch.no_grad()
    def commit(self) -> None:
        sum_over_processes([self.total, self.count])
        self.mean.lerp_(self.total / self.count, 1 - self.beta)
        self.total.zero_()
        self.count.zero_()


class WarmUp(nn.Module):
    """A weight that rises from nothing to one over so many images; at once, if over none."""

    images_seen: Tensor
    new: Tensor

    def __init__(self, images: int) -> None:
        super().__init__()
        self.images = images
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("new", torch.zeros((), dtype=torch.int64), persistent=False)

    def weight(self, shown: int) -> Tensor | float:
        """The weight, as it is before so many images are shown."""
        if not self.images:
            return 1.0
        weight = (self.images_seen / self.images).clamp(max=1)
        self.new.add_(shown)
        return weight

    @property
    def rising(self) -> bool:
        return bool(self.images_seen < self.images)

    @torch.no_grad()
    def commit(self) -> None:
        sum_over_processes([self.new])
        self.images_seen.add_(self.new)
        self.new.zero_()
