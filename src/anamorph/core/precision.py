"""Precision of arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["at_least_float32", "autocast_off"]


def autocast_off(x: Tensor) -> torch.autocast:
    """Switch autocast off, for layers so narrow that lower precision would cost accuracy and save no time."""
    return torch.autocast(x.device.type, enabled=False)


def at_least_float32(x: Tensor) -> Tensor:
    """Convert x to single precision if it has less, as for sums, roots and the outputs of models."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
