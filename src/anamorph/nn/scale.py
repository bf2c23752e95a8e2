"""The range of pixel values that a network works in. Outside every model they are in [-1, 1]."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

__all__ = ["PixelRange", "from_bytes", "from_range", "to_bytes", "to_range"]

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
