"""What a change of styles moves, and what a change of noise does: statistics of images' features.

Styles set the mean and variance of a network's feature maps, and the Gram matrix of features is what style transfer matches
(Gatys et al. 2016, doi:10.1109/CVPR.2016.265); Karras et al. 2018, sections 3.1 and 3.2, tell the two by eye.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Features", "moved", "pattern_features", "statistics"]

Features = Callable[[Tensor], list[Tensor]]
"""Feature maps [B, K, h, w], one tensor per scale, of images [B, C, H, W]."""


def pattern_features(images: Tensor) -> list[Tensor]:
    """Compute features of each channel: itself, smoothed, and its first and second derivatives along both axes and across, at
    two scales. Fixed filters (Gaussian derivatives), for want of a trained network: they see colours, edges and lines."""
    filters = torch.stack([a[:, None] * b for a, b in _derivatives()]).to(images).unsqueeze(1)
    n, channels = len(filters), images.shape[1]
    scales = [images, F.avg_pool2d(images, 2)] if min(images.shape[2:]) >= 16 else [images]
    return [
        F.conv2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), filters.repeat(channels, 1, 1, 1), groups=channels).view(
            len(x), n * channels, *x.shape[2:]
        )
        for x in scales
    ]


def _derivatives() -> list[tuple[Tensor, Tensor]]:
    """Pairs of filters of five numbers, down and across."""
    smooth = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    slope, bend = torch.tensor([-1.0, -2.0, 0.0, 2.0, 1.0]) / 6, torch.tensor([1.0, 0.0, -2.0, 0.0, 1.0]) / 4
    return [(smooth, smooth), (slope, smooth), (smooth, slope), (bend, smooth), (smooth, bend), (slope, slope)]


def statistics(maps: list[Tensor]) -> dict[str, Tensor]:
    """Compute statistics of feature maps: each one's mean and variance, and how they go together (Gram matrix), [B, numbers]
    each.
    """
    flat = [x.flatten(2) for x in maps]
    return {
        "mean": torch.cat([x.mean(2) for x in flat], 1),
        "variance": torch.cat([x.var(2, correction=0) for x in flat], 1),
        "Gram matrix": torch.cat([(x @ x.mT / x.shape[2]).flatten(1) for x in flat], 1),
    }


def moved(images: Tensor, changed: Mapping[str, Tensor], features: Features = pattern_features) -> dict[str, dict[str, float]]:
    """Return how far each change moves each statistic of images [B, ...]: the root mean square distance between an image and
    what it became, as a share of that between two of the images (1: like another image)."""
    before = statistics(features(images))
    apart = {name: _distance(value, value.roll(1, 0)) for name, value in before.items()}
    found = {}
    for change, after in changed.items():
        now = statistics(features(after))
        found[change] = {name: _distance(before[name], now[name]) / max(apart[name], 1e-12) for name in before}
    return found


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().sum(1).mean().sqrt())
