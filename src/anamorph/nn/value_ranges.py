"""Conversions between [-1, 1], the range of values outside every model, and a network's range or whole numbers."""

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
    """Convert pixels in [-1, 1] to the network's range."""
    return x if pixel_range == "signed" else (x + 1) / 2


def from_range(x: Tensor, pixel_range: PixelRange) -> Tensor:
    """Convert pixels in the network's range to [-1, 1]."""
    return x if pixel_range == "signed" else x * 2 - 1


def to_bytes(x: Tensor) -> Tensor:
    """Round pixels in [-1, 1] to whole numbers 0..255."""
    return ((x + 1) * 127.5).round().long().clamp(0, 255)


def from_bytes(values: Tensor) -> Tensor:
    """Convert whole numbers 0..255 to pixels in [-1, 1]."""
    return values / 127.5 - 1


def mu_law_compress(x: Tensor, mu: float = 255.0) -> Tensor:
    """Compand amplitudes: sign(x) log(1 + mu |x|) / log(1 + mu), from [-1, 1] to [-1, 1]; quiet ones are resolved best.

    The mu-law of ITU-T G.711 without its segments (van den Oord et al. 2016, arXiv:1609.03499, section 2.2).
    """
    return x.sign() * torch.log1p(mu * x.abs()) / math.log1p(mu)


def mu_law_expand(y: Tensor, mu: float = 255.0) -> Tensor:
    """Invert `mu_law_compress`."""
    return y.sign() * torch.expm1(y.abs() * math.log1p(mu)) / mu


def to_mu_law(x: Tensor, levels: int = 256) -> Tensor:
    """Quantise amplitudes in [-1, 1], companded, to whole numbers 0 .. levels - 1; of 256 levels, silence is 128."""
    return ((mu_law_compress(x) + 1) / 2 * (levels - 1) + 0.5).floor().long().clamp(0, levels - 1)


def from_mu_law(ids: Tensor, levels: int = 256) -> Tensor:
    """Convert whole numbers 0 .. levels - 1 to amplitudes in [-1, 1]."""
    return mu_law_expand(2 * ids / (levels - 1) - 1)
