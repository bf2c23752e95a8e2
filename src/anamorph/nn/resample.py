"""Downsampling, upsampling and blurring of images and feature maps, alone and fused with convolutions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from anamorph.core.precision import autocast_off

__all__ = ["blur", "downsample", "downsample_conv", "fade_in", "upsample", "upsample_conv"]


def downsample(x: Tensor, times: int = 1) -> Tensor:
    """Halve the sides of x [B, C, H, W] `times` times, by averaging boxes of 2x2 pixels."""
    return F.avg_pool2d(x, 2**times) if times else x


def upsample(x: Tensor, times: int = 1) -> Tensor:
    """Double the sides of x [B, C, H, W] `times` times, by repeating pixels."""
    if not times:
        return x
    side = 2**times
    return x.unflatten(3, (-1, 1)).unflatten(2, (-1, 1)).expand(-1, -1, -1, side, -1, side).flatten(4, 5).flatten(2, 3)


def fade_in(x: Tensor, alpha: float | Tensor) -> Tensor:
    """Interpolate between x [B, C, H, W] at half its resolution (alpha = 0) and x (alpha = 1)."""
    if isinstance(alpha, float) and alpha == 1:
        return x
    coarse = upsample(downsample(x))
    return coarse + (x - coarse) * alpha


def blur(x: Tensor) -> Tensor:
    """Blur x [B, C, H, W] with [1, 2, 1] x [1, 2, 1] / 16, padded with zeros (Karras et al. 2018, section 2).

    Compiled, with channels last, a depthwise convolution takes a tenth of the time of sums, whose gradients are padded and
    sliced repeatedly. Otherwise sums are as fast, and faster to differentiate twice (measured).
    """
    if torch.compiler.is_compiling():
        row = x.new_tensor([0.25, 0.5, 0.25])
        return F.conv2d(x, (row[:, None] * row).expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])
    x = F.pad(x, (1, 1, 1, 1))
    x = (x[..., :-2, :] + x[..., 2:, :]) * 0.25 + x[..., 1:-1, :] * 0.5
    return (x[..., :-2] + x[..., 2:]) * 0.25 + x[..., 1:-1] * 0.5


BOX = [[float(0 <= i // 4 - j // 3 <= 1 and 0 <= i % 4 - j % 3 <= 1) for i in range(16)] for j in range(9)]
"""The matrix [9, 16] from a 3x3 kernel to the 4x4 kernel of that convolution followed by a 2x2 box of ones."""


def _with_box(weight: Tensor, flip: bool = False) -> Tensor:
    """Return the kernel [O, I, 4, 4] of a kernel [O, I, 3, 3], flipped in both axes first if asked, and a 2x2 box of ones.

    Compiled, a depthwise convolution with channels last is faster (see `blur`); otherwise a matrix product is.
    """
    with autocast_off(weight):
        if torch.compiler.is_compiling():
            w = weight.flip(2, 3) if flip else weight
            return F.conv2d(w, w.new_ones(w.shape[1], 1, 2, 2), padding=1, groups=w.shape[1])
        return (weight.flatten(2) @ weight.new_tensor(BOX[::-1] if flip else BOX)).unflatten(2, (4, 4))


def upsample_conv(x: Tensor, weight: Tensor, flipped: bool = False) -> Tensor:
    """Upsample x [B, I, H, W], then convolve with weight [O, I, 3, 3], giving [B, O, 2H, 2W].

    This is one transposed convolution with a 4x4 kernel, which takes four ninths of the products.

    Args:
        x: feature maps.
        weight: kernel.
        flipped: flip the kernel in both axes, as the original's fused layers do: another function of the same weights.
    """
    return F.conv_transpose2d(x, _with_box(weight, flip=not flipped).transpose(0, 1), stride=2, padding=1)


def downsample_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve x [B, I, H, W] with weight [O, I, 3, 3], then downsample to [B, O, H / 2, W / 2], as one 4x4 convolution."""
    return F.conv2d(x, _with_box(weight) / 4, bias, stride=2, padding=1)
