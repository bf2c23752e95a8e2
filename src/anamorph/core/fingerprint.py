"""Names for weights: equal ones have equal names, on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import nn

__all__ = ["fingerprint_of"]


def fingerprint_of(model: nn.Module, about: str = "", rename: Callable[[str], str] = str) -> str:
    """A fingerprint of a model's weights.

    about: anything else that the fingerprint should depend on. rename: gives each tensor the name that it is known by.
    """
    digest = hashlib.blake2b(about.encode(), digest_size=8)
    for name, value in sorted((rename(name), value) for name, value in model.state_dict().items()):
        digest.update(name.encode())
        digest.update(
            value.detach().cpu().contiguous().view(torch.uint8).numpy().data if value.dim() else repr(value.item()).encode()
        )
    return digest.hexdigest()
