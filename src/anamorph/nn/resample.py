"""Images and feature maps made smaller, larger and smoother; and convolutions that do it on the way."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from anamorph.core.precision import autocast_off

__all__ = ["blur", "downsample", "downsample_conv", "fade_in", "upsample", "upsample_conv"]


def downsample(x: Tensor, times: int = 1) -> Tensor:
    """x [B, C, H, W] at half the size, by averaging 2x2 boxes; `times` times."""
    return F.avg_pool2d(x, 2**times) if times else x


def upsample(x: Tensor, times: int = 1) -> Tensor:
    """x [B, C, H, W] at twice the size, by repeating pixels; `times` times."""
    if not times:
        return x
    side = 2**times
    return x.unflatten(3, (-1, 1)).unflatten(2, (-1, 1)).expand(-1, -1, -1, side, -1, side).flatten(4, 5).flatten(2, 3)


def fade_in(x: Tensor, alpha: float | Tensor) -> Tensor:
    """x [B, C, H, W] where blend is 1; where it is 0, x as it was before its last doubling."""
    if isinstance(alpha, float) and alpha == 1:
        return x
    coarse = upsample(downsample(x))
    return coarse + (x - coarse) * alpha


def blur(x: Tensor) -> Tensor:
    """x [B, C, H, W] smoothed with [1, 2, 1] x [1, 2, 1] / 16, zero outside (Karras et al. 2018, section 2).

    Compiled, where channels lie last, a depthwise convolution takes a tenth of the time of sums, whose gradients are padded
    and cut again and again; otherwise sums are as fast, and faster to differentiate twice (measured).
    """
    if torch.compiler.is_compiling():
        row = x.new_tensor([0.25, 0.5, 0.25])
        return F.conv2d(x, (row[:, None] * row).expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])
    x = F.pad(x, (1, 1, 1, 1))
    x = (x[..., :-2, :] + x[..., 2:, :]) * 0.25 + x[..., 1:-1, :] * 0.5
    return (x[..., :-2] + x[..., 2:]) * 0.25 + x[..., 1:-1] * 0.5


BOX = [[float(0 <= i // 4 - j // 3 <= 1 and 0 <= i % 4 - j % 3 <= 1) for i in range(16)] for j in range(9)]
"""What each place of a 3x3 kernel adds to each of the 4x4 kernel that it becomes when a 2x2 box of ones follows it."""


def _spread(weight: Tensor, turned: bool = False) -> Tensor:
    """A kernel [O, I, 3, 3] followed by a 2x2 box of ones, as one kernel [O, I, 4, 4]. turned: upside down and mirrored first.

    Compiled, it is a depthwise convolution with channels last (see `blur`); otherwise a matrix product is faster.
    """
    with autocast_off(weight):
        if torch.compiler.is_compiling():
            w = weight.flip(2, 3) if turned else weight
            return F.conv2d(w, w.new_ones(w.shape[1], 1, 2, 2), padding=1, groups=w.shape[1])
        return (weight.flatten(2) @ weight.new_tensor(BOX[::-1] if turned else BOX)).unflatten(2, (4, 4))


def upsample_conv(x: Tensor, weight: Tensor, flipped: bool = False) -> Tensor:
    """x [B, I, H, W] doubled, then convolved with weight [O, I, 3, 3]: [B, O, 2H, 2W].

    Done as one transposed convolution with a 4x4 kernel, which takes four ninths of the products. flipped: as the original's
    fused form, where the kernel acts upside down and mirrored: another function of the same weights.
    """
    return F.conv_transpose2d(x, _spread(weight, turned=not flipped).transpose(0, 1), stride=2, padding=1)


def downsample_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [B, I, H, W] convolved with weight [O, I, 3, 3], then halved: [B, O, H / 2, W / 2]; as one 4x4 convolution."""
    return F.conv2d(x, _spread(weight) / 4, bias, stride=2, padding=1)
