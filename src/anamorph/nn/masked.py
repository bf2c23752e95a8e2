"""Convolutions that do not look ahead: not below, not to the right, not at channels that come later at the same place.

van den Oord, Kalchbrenner, Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", arXiv:1601.06759, section 3.4 and figure 4.
Feature maps belong to channels by turns: map i to channel i modulo the number of channels.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from anamorph.core.random import Random

__all__ = ["MaskedConv", "WeightNormConv", "channel_mask_at_centre", "dropout", "mask_of"]

Kind = Literal["A", "B"]
"""A: a channel does not see itself at its own place. B: it does."""


def channel_mask_at_centre(outputs: int, inputs: int, channels: int, kind: Kind) -> Tensor:
    """Which input maps an output map may see at its own place [outputs, inputs], true or false."""
    after, before = torch.arange(outputs) % channels, torch.arange(inputs) % channels
    seen = before[None] < after[:, None] if kind == "A" else before[None] <= after[:, None]
    return seen


def mask_of(outputs: int, inputs: int, size: tuple[int, int], channels: int, kind: Kind) -> Tensor:
    """The mask [outputs, inputs, h, w] of a convolution whose centre is at (h // 2, w // 2)."""
    height, width = size
    row, column = height // 2, width // 2
    mask = torch.zeros(outputs, inputs, height, width)
    mask[:, :, :row] = 1
    mask[:, :, row, :column] = 1
    mask[:, :, row, column] = channel_mask_at_centre(outputs, inputs, channels, kind).float()
    return mask


class MaskedConv(nn.Conv2d):
    """[B, I, H, W] to [B, O, H, W]: a convolution with a mask [O, I, h, w] or [1, 1, h, w], and zeros beyond the edges.

    edges: how many rows and columns of zeros there are to the left, right, above and below.
    """

    mask: Tensor | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: tuple[int, int] = (1, 1),
        edges: tuple[int, int, int, int] = (0, 0, 0, 0),
        mask: Tensor | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__(inputs, outputs, size, bias=bias)
        self.edges = edges
        self.register_buffer("mask", mask, persistent=False)

    def masked_weight(self) -> Tensor:
        """The weight [O, I, h, w] with zeros where the mask has them."""
        return self.weight if self.mask is None else self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(pad(x, self.edges) if any(self.edges) else x, self.masked_weight(), self.bias)


class WeightNormConv(MaskedConv):
    """A masked convolution whose kernels have a length of their own: w = g v / |v|.

    Salimans and Kingma 2016, arXiv:1602.07868, equation 2. What is masked does not count in |v|.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: tuple[int, int] = (1, 1),
        edges: tuple[int, int, int, int] = (0, 0, 0, 0),
        mask: Tensor | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__(inputs, outputs, size, edges, mask, bias)
        direction = self.weight.detach() if mask is None else self.weight.detach() * mask
        self.length = nn.Parameter(_norms(direction))

    def masked_weight(self) -> Tensor:
        direction = super().masked_weight()
        return direction * (self.length / _norms(direction))


def _norms(weight: Tensor) -> Tensor:
    """Of each kernel, [O, 1, 1, 1]."""
    return weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def dropout(x: Tensor, rate: float, random: Random | None) -> Tensor:
    """x with a share of its values left out, and the others larger by as much; all of them without random numbers."""
    if random is None or rate == 0:
        return x
    return torch.where(random.uniform(*x.shape) < rate, torch.zeros_like(x), x / (1 - rate))
