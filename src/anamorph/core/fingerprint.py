"""Fingerprints of weights: equal weights have equal fingerprints, on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import nn

__all__ = ["fingerprint_of"]


def fingerprint_of(model: nn.Module, about: str = "", rename: Callable[[str], str] = str) -> str:
    """Compute a fingerprint of a model's weights, 16 hexadecimal digits.

    Args:
        model: its state_dict is hashed.
        about: anything else that the fingerprint should depend on.
        rename: maps the name of each tensor to the one that is hashed.
    """
    digest = hashlib.blake2b(about.encode(), digest_size=8)
    for name, value in sorted((rename(name), value) for name, value in model.state_dict().items()):
        digest.update(name.encode())
        digest.update(
            value.detach().cpu().contiguous().view(torch.uint8).numpy().data if value.dim() else repr(value.item()).encode()
        )
    return digest.hexdigest()
