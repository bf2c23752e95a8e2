"""Several processes that train one model: the rank of this one, and sums over all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["mean_over_processes", "rank", "sum_over_processes", "world_size"]


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the rank of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def sum_over_processes(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over the processes; all are sent in one message."""
    if world_size() == 1 or not tensors:
        return
    flat = torch.cat([t.reshape(-1) for t in tensors])
    dist.all_reduce(flat)
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def mean_over_processes(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over the processes."""
    sum_over_processes(tensors)
    if world_size() > 1:
        for tensor in tensors:
            tensor.div_(world_size())
