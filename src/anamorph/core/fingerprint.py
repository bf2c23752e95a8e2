"""Names for weights: equal ones have equal names, on every machine."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

__all__ = ["fingerprint_of"]


def fingerprint_of(model: nn.Module, about: str = "") -> str:
    """Names the weights of a model, and what else is told of it."""
    digest = hashlib.blake2b(about.encode(), digest_size=8)
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(
            value.detach().cpu().contiguous().view(torch.uint8).numpy().data if value.dim() else repr(value.item()).encode()
        )
    return digest.hexdigest()
