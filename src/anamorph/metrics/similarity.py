"""How like its original an image is: by numbers, by structure, and by a network's features. One value per image, [B]."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from anamorph.core.errors import UserError

__all__ = ["feature_distance", "ms_ssim", "mse", "psnr_db", "smallest_side", "ssim"]

RANGE = 2.0
"""Of pixels in [-1, 1]."""
TAPS, SIGMA = 11, 1.5
LUMINANCE, CONTRAST = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the five scales, the finest first (Wang, Simoncelli, Bovik 2003, section 3.2)."""


def mse(a: Tensor, b: Tensor) -> Tensor:
    """Compute the mean squared difference of images [B, C, H, W]."""
    _check(a, b)
    return (a - b).square().flatten(1).mean(1)


def psnr_db(a: Tensor, b: Tensor) -> Tensor:
    """Compute the peak signal-to-noise ratio of images in [-1, 1], in decibels; infinite for equal ones."""
    return 10 * torch.log10(RANGE**2 / mse(a, b))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Compute the structural similarity of images [B, C, H, W] in [-1, 1]: 1 for equal ones.

    Wang, Bovik, Sheikh, Simoncelli 2004, doi:10.1109/TIP.2003.819861, equation 13, with their window (a Gaussian of 11 pixels
    and sigma 1.5, where it fits whole) and constants; colours are taken one by one.
    Raises: UserError if an image is smaller than the window.
    """
    _check(a, b, TAPS)
    return _compared(a, b)[0]


def ms_ssim(a: Tensor, b: Tensor, scales: int = 5) -> Tensor:
    """Compute the structural similarity over several scales, each half the last, of images [B, C, H, W] in [-1, 1].

    Wang, Simoncelli, Bovik 2003, doi:10.1109/ACSSC.2003.1292216, equation 7, with their five weights; of fewer scales, the
    first weights, made to sum to the same, which gives another measure. Contrast below zero counts as zero.
    Raises: UserError if an image, halved that often, is smaller than the window.
    """
    if not 1 <= scales <= len(WEIGHTS):
        raise UserError(f"wanted 1 to {len(WEIGHTS)} scales, got {scales}")
    _check(a, b, smallest_side(scales), f"over {scales} scales; use fewer scales, or ssim")
    weights = torch.tensor(WEIGHTS[:scales], dtype=a.dtype, device=a.device)
    weights, found = weights * (sum(WEIGHTS) / weights.sum()), []
    for scale in range(scales):
        whole, contrast = _compared(a, b)
        found.append((whole if scale == scales - 1 else contrast).clamp(min=0))
        if scale < scales - 1:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return torch.stack(found, 1).pow(weights).prod(1)


def smallest_side(scales: int) -> int:
    """Compute the least height and width of an image that the window fits into after all halvings."""
    return TAPS * 2 ** (scales - 1)


def _compared(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the mean over an image [B] of luminance, contrast and structure together, and of the last two alone."""
    stacked = torch.cat([a, b, a * a, b * b, a * b], 1)
    mean_a, mean_b, aa, bb, ab = _blurred(stacked).chunk(5, 1)
    spread = (aa - mean_a**2).clamp(min=0) + (bb - mean_b**2).clamp(min=0)
    contrast = (2 * (ab - mean_a * mean_b) + CONTRAST) / (spread + CONTRAST)
    luminance = (2 * mean_a * mean_b + LUMINANCE) / (mean_a**2 + mean_b**2 + LUMINANCE)
    return (luminance * contrast).flatten(1).mean(1), contrast.flatten(1).mean(1)


def _blurred(x: Tensor) -> Tensor:
    offset = torch.arange(TAPS, dtype=x.dtype, device=x.device) - TAPS // 2
    window = torch.exp(-(offset**2) / (2 * SIGMA**2))
    window = window / window.sum()
    rows = F.conv2d(x.flatten(0, 1)[:, None], window.view(1, 1, -1, 1))
    return F.conv2d(rows, window.view(1, 1, 1, -1)).view(*x.shape[:2], x.shape[2] - TAPS + 1, x.shape[3] - TAPS + 1)


def feature_distance(a: Tensor, b: Tensor) -> Tensor:
    """Compute the mean squared difference of features [B, D], relative to their mean square over both; 0 for equal ones,
    about 1 and up for images that have nothing in common."""
    scale = 0.5 * (a.square().mean() + b.square().mean())
    return (a - b).square().mean(1) / scale.clamp(min=math.ulp(0))


def _check(a: Tensor, b: Tensor, least: int = 1, purpose: str = "") -> None:
    if a.shape != b.shape or a.dim() != 4:
        raise UserError(f"got images {list(a.shape)} and {list(b.shape)}, wanted two batches [B, C, H, W] alike")
    if min(a.shape[2:]) < least:
        raise UserError(
            f"images of {a.shape[2]}x{a.shape[3]} are too small for a window of {TAPS} pixels"
            f"{' ' + purpose if purpose else ''}: at least {least}x{least} are needed"
        )
