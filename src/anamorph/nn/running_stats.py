"""Statistics that a loss gathers during a step, and that take effect once, at its end."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anamorph.core.parallel import sum_over_processes

__all__ = ["RunningMean", "WarmUp"]


class RunningMean(nn.Module):
    """An exponential moving average [*shape]: `gather` collects tensors, `commit` moves the mean once.

    Args:
        shape: of the mean.
        beta: weight of the old mean in a commit, in [0, 1].
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
    def gather(self, values: Tensor) -> None:
        """Add values [B, *shape] to those that the next commit averages."""
        self.total.add_(values.sum(0))
        self.count.add_(len(values))

    @torch.no_grad()
    def commit(self) -> None:
        """Move the mean towards that of the gathered values, over all processes."""
        sum_over_processes([self.total, self.count])
        self.mean.lerp_(self.total / self.count, 1 - self.beta)
        self.total.zero_()
        self.count.zero_()


class WarmUp(nn.Module):
    """A weight that rises linearly from 0 to 1 over a number of images; it is 1 from the start if that is 0."""

    images_seen: Tensor
    new: Tensor

    def __init__(self, images: int) -> None:
        super().__init__()
        self.images = images
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("new", torch.zeros((), dtype=torch.int64), persistent=False)

    def weight(self, batch_size: int) -> Tensor | float:
        """Return the weight before a batch, and count the batch's images at the next commit."""
        if not self.images:
            return 1.0
        weight = (self.images_seen / self.images).clamp(max=1)
        self.new.add_(batch_size)
        return weight

    @property
    def rising(self) -> bool:
        """Whether the weight is still below 1."""
        return bool(self.images_seen < self.images)

    @torch.no_grad()
    def commit(self) -> None:
        """Count the images of the last step, over all processes."""
        sum_over_processes([self.new])
        self.images_seen.add_(self.new)
        self.new.zero_()
