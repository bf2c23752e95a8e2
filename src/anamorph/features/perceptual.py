"""LPIPS: a distance of images that was fitted to human judgements.

Zhang et al. 2018, arXiv:1801.03924, version 0.1 of github.com/richzhang/PerceptualSimilarity. Untested with the published
backbones; the heads are tested as published.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anamorph.core.errors import UserError
from anamorph.features.backbones import BACKBONES, TAPS, taps
from anamorph.features.network import DistanceNetwork, in_channels

__all__ = ["LPIPS", "SMALLEST", "lpips"]

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""ImageNet's mean and deviation, for images in [-1, 1], as LPIPS rounds them."""

SMALLEST = {"vgg16": 16, "alexnet": 31, "squeezenet": 17}
"""The least height and width that leaves something to the last of the taps."""


def lpips(a: Sequence[Tensor], b: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Return the learned perceptual distance [B] of two images' feature maps [B, K, h, w], one pair for each tap of a
    network, with the weight [K] of each map.

    Zhang et al. 2018, arXiv:1801.03924, equation 1: maps are scaled to length one at each place, and the weighted squares of
    their differences averaged over places and summed over taps.
    Raises: UserError if the maps and weights are not of the same taps.
    """
    if not len(a) == len(b) == len(weights):
        raise UserError(f"feature maps of {len(a)} and {len(b)} taps, but weights of {len(weights)}")
    distances = []
    for left, right, weight in zip(a, b, weights, strict=True):
        if left.shape != right.shape or left.shape[1] != weight.numel():
            raise UserError(f"maps {list(left.shape)} and {list(right.shape)}, weights of {weight.numel()}: not of one network")
        squared = (_unit(left) - _unit(right)).square()
        distances.append((squared * weight.view(1, -1, 1, 1)).sum(1).mean((1, 2)))
    return torch.stack(distances).sum(0)


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)


class LPIPS(DistanceNetwork):
    """The distance [B] of images in their own size; as features, all maps, scaled so that squared differences add up to it.

    network: vgg16, alexnet or squeezenet. heads: the published weight of each map.
    """

    def __init__(self, network: str) -> None:
        super().__init__()
        self.network, self.name, self.resizer = network, f"lpips-{network}", "none"
        self.features = BACKBONES[network]()
        layers = list(self.features)
        widths = [_width(layers[: tap + 1]) for tap in TAPS[network]]
        self.heads = nn.ParameterList([nn.Parameter(torch.zeros(wide), requires_grad=False) for wide in widths])
        self.width = sum(widths)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Return the maps [B, K, h, w] of images [B, C, H, W] in [-1, 1].

        Raises: UserError if they are too small for the network.
        """
        least = SMALLEST[self.network]
        if min(x.shape[2:]) < least:
            raise UserError(
                f"{self.name} needs images of at least {least}x{least}, got {x.shape[2]}x{x.shape[3]}: enlarge them"
            )
        shift, scale = (x.new_tensor(v).view(1, 3, 1, 1) for v in (SHIFT, SCALE))
        return list(taps(self.features, self.network, (in_channels(x, 3) - shift) / scale))

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        return lpips(self.maps(a), self.maps(b), list(self.heads))

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted mean [B, D] of each scaled map over places: what of a distance does not depend on place."""
        pairs = zip(self.maps(x), self.heads, strict=True)
        return torch.cat([(_unit(m) * h.sqrt().view(1, -1, 1, 1)).mean((2, 3)) for m, h in pairs], 1)


def _width(layers: Sequence[nn.Module]) -> int:
    """Return the channels of the last convolution among layers."""
    last = [m for layer in layers for m in layer.modules() if isinstance(m, nn.Conv2d)][-1]
    joined = isinstance(layers[-1], nn.Module) and hasattr(layers[-1], "expand3x3")
    return 2 * last.out_channels if joined else last.out_channels
