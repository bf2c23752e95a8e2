"""The encoder and decoder of VQ-VAEs: strided convolutions and residual blocks.

van den Oord et al. 2017, arXiv:1711.00937, section 4.1; with the half-width outermost layer and the 3x3 convolution between
strides and residual blocks of the authors' later code, which VQ-VAE-2 (arXiv:1906.00446) uses, too.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d

from anamorph.core.errors import UserError

__all__ = ["Conv", "ConvDecoder", "ConvEncoder", "ResidualBlock", "UpConv", "check_stride"]


def check_stride(height: int, width: int, stride: int) -> None:
    """Check that strided convolutions fit an image.

    Raises: UserError if the stride is no power of two from 2 on, or does not divide height and width.
    """
    if stride < 2 or stride & (stride - 1):
        raise UserError(f"stride must be a power of two and at least 2, got {stride}")
    if height % stride or width % stride:
        fit = [max(stride, side // stride * stride) for side in (height, width)]
        raise UserError(
            f"a stride of {stride} must divide the sides of the images, got {height}x{width}: use images of {fit[0]}x{fit[1]} "
            f"(--size {fit[0]}x{fit[1]}) or another stride (--model.stride)"
        )


class Conv(nn.Conv2d):
    """A convolution whose bias is added separately when compiled, so that the compiler can fuse it and its gradient."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            return super().forward(x)
        return self._conv_forward(x, self.weight, None) + _as_map(self.bias)


class UpConv(nn.ConvTranspose2d):
    """A transposed convolution whose bias is added separately when compiled, as in `Conv`."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if not torch.compiler.is_compiling():
            return super().forward(x, output_size)
        return conv_transpose2d(x, self.weight, None, self.stride, self.padding) + _as_map(self.bias)  # type: ignore[arg-type]


def _as_map(bias: Tensor | None) -> Tensor | float:
    return 0.0 if bias is None else bias[:, None, None]


class ResidualBlock(nn.Sequential):
    """A residual block on [B, width, H, W]: x + conv1x1(relu(conv3x3(relu(x))))."""

    def __init__(self, width: int, residual_channels: int) -> None:
        super().__init__(nn.ReLU(), Conv(width, residual_channels, 3, padding=1), nn.ReLU(), Conv(residual_channels, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class ConvEncoder(nn.Sequential):
    """Encode images [B, channels, H, W] to features [B, width, H / stride, W / stride]."""

    def __init__(self, channels: int, width: int, residual_blocks: int, residual_channels: int, stride: int) -> None:
        strides = stride.bit_length() - 1
        sizes = [channels, width // 2, *[width] * (strides - 1)]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [Conv(before, after, 4, stride=2, padding=1), nn.ReLU()]
        layers += [Conv(sizes[-1], width, 3, padding=1)]
        layers += [ResidualBlock(width, residual_channels) for _ in range(residual_blocks)]
        super().__init__(*layers, nn.ReLU())


class ConvDecoder(nn.Sequential):
    """Decode features [B, features, h, w] to images [B, channels, h * stride, w * stride]."""

    def __init__(
        self, features: int, channels: int, width: int, residual_blocks: int, residual_channels: int, stride: int
    ) -> None:
        strides = stride.bit_length() - 1
        sizes = [*[width] * strides, width // 2, channels][-strides:]
        layers: list[nn.Module] = [Conv(features, width, 3, padding=1)]
        layers += [ResidualBlock(width, residual_channels) for _ in range(residual_blocks)]
        for before, after in zip([width, *sizes], sizes, strict=False):
            layers += [nn.ReLU(), UpConv(before, after, 4, stride=2, padding=1)]
        super().__init__(*layers)
