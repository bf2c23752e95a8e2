"""Masked convolutions, which see nothing below, to the right, or in later channels of the same position.

van den Oord, Kalchbrenner, Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", arXiv:1601.06759, section 3.4 and figure 4.
Features belong to the channels of the data in turn: feature i to channel i modulo the number of channels.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from anamorph.core.random import Random

__all__ = ["MaskedConv", "WeightNormConv", "channel_mask_at_centre", "dropout", "mask_of"]

MaskType = Literal["A", "B"]
"""A: a channel does not see itself at its own position. B: it does."""


def channel_mask_at_centre(outputs: int, inputs: int, channels: int, mask_type: MaskType) -> Tensor:
    """Return which input features an output feature sees at its own position, a Boolean mask [outputs, inputs]."""
    after, before = torch.arange(outputs) % channels, torch.arange(inputs) % channels
    return before[None] < after[:, None] if mask_type == "A" else before[None] <= after[:, None]


def mask_of(outputs: int, inputs: int, size: tuple[int, int], channels: int, mask_type: MaskType) -> Tensor:
    """Return the mask [outputs, inputs, h, w] of a convolution whose centre is at (h // 2, w // 2)."""
    height, width = size
    row, column = height // 2, width // 2
    mask = torch.zeros(outputs, inputs, height, width)
    mask[:, :, :row] = 1
    mask[:, :, row, :column] = 1
    mask[:, :, row, column] = channel_mask_at_centre(outputs, inputs, channels, mask_type).float()
    return mask


class MaskedConv(nn.Conv2d):
    """A convolution [B, I, H, W] -> [B, O, H, W] whose weight is multiplied by a mask.

    Args:
        inputs: I.
        outputs: O.
        size: height and width of the kernel.
        padding: columns and rows of zeros to the left, right, above and below, as for `torch.nn.functional.pad`.
        mask: [O, I, h, w] or [1, 1, h, w]; None: no mask.
        bias: whether a bias is added.
    """

    mask: Tensor | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        mask: Tensor | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__(inputs, outputs, size, bias=bias)
        self.zero_padding = padding
        self.register_buffer("mask", mask, persistent=False)

    def masked_weight(self) -> Tensor:
        """Return the weight [O, I, h, w] times the mask."""
        return self.weight if self.mask is None else self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(pad(x, self.zero_padding) if any(self.zero_padding) else x, self.masked_weight(), self.bias)


class WeightNormConv(MaskedConv):
    """A masked convolution with weight normalisation, w = g v / |v|; masked weights do not count in |v|.

    Salimans and Kingma 2016, arXiv:1602.07868, equation 2.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        mask: Tensor | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__(inputs, outputs, size, padding, mask, bias)
        direction = self.weight.detach() if mask is None else self.weight.detach() * mask
        self.length = nn.Parameter(_norms(direction))

    def masked_weight(self) -> Tensor:
        direction = super().masked_weight()
        return direction * (self.length / _norms(direction))


def _norms(weight: Tensor) -> Tensor:
    """Return the norm of each output's kernel [O, 1, 1, 1]."""
    return weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def dropout(x: Tensor, rate: float, random: Random | None) -> Tensor:
    """Set values of x to zero with probability `rate`, and divide the others by 1 - rate; without random numbers, return x."""
    if random is None or rate == 0:
        return x
    return torch.where(random.uniform(*x.shape) < rate, torch.zeros_like(x), x / (1 - rate))
