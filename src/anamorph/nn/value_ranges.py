"""The range of values that a network works in, and whole numbers for them. Outside every model they are in [-1, 1]."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

__all__ = [
    "PixelRange",
    "from_bytes",
    "from_mu_law",
    "from_range",
    "mu_law_compress",
    "mu_law_expand",
    "to_bytes",
    "to_mu_law",
    "to_range",
]

PixelRange = Literal["signed", "unit"]
"""signed: [-1, 1]. unit: [0, 1]."""


def to_range(x: Tensor, pixel_range: PixelRange) -> Tensor:
    """Pixels in [-1, 1] to the network's range."""
    return x if pixel_range == "signed" else (x + 1) / 2


def from_range(x: Tensor, pixel_range: PixelRange) -> Tensor:
    """The network's range to pixels in [-1, 1]."""
    return x if pixel_range == "signed" else x * 2 - 1


def to_bytes(x: Tensor) -> Tensor:
    """Pixels in [-1, 1] as whole numbers 0..255."""
    return ((x + 1) * 127.5).round().long().clamp(0, 255)


def from_bytes(values: Tensor) -> Tensor:
    """Whole numbers 0..255 as pixels in [-1, 1]."""
    return values / 127.5 - 1


def mu_law_compress(x: Tensor, mu: float = 255.0) -> Tensor:
    """Amplitudes in [-1, 1] so that quiet ones are told apart: sign(x) log(1 + mu |x|) / log(1 + mu), in [-1, 1].

    The mu-law of ITU-T G.711 without its segments (van den Oord et al. 2016, arXiv:1609.03499, section 2.2).
    """
    return x.sign() * torch.log1p(mu * x.abs()) / math.log1p(mu)


def mu_law_expand(y: Tensor, mu: float = 255.0) -> Tensor:
    """What was companded, as it was."""
    return y.sign() * torch.expm1(y.abs() * math.log1p(mu)) / mu


def to_mu_law(x: Tensor, levels: int = 256) -> Tensor:
    """Amplitudes in [-1, 1] as whole numbers 0 .. levels - 1, evenly spread over what is companded; of 256, silence is 128."""
    return ((mu_law_compress(x) + 1) / 2 * (levels - 1) + 0.5).floor().long().clamp(0, levels - 1)


def from_mu_law(ids: Tensor, levels: int = 256) -> Tensor:
    """Amplitudes [-1, 1] of whole numbers 0 .. levels - 1."""
    return mu_law_expand(2 * ids / (levels - 1) - 1)
