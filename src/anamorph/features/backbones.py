"""VGG16, AlexNet and SqueezeNet, under the names of torchvision's published weights, with the maps that LPIPS reads.

Simonyan and Zisserman 2014, arXiv:1409.1556; Krizhevsky 2014, arXiv:1404.5997; Iandola et al. 2016, arXiv:1602.07360 (1.1).
Untested with the published weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anamorph.features.network import FeatureNetwork, in_channels, resized

__all__ = ["BACKBONES", "TAPS", "VGG16Features", "taps"]

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet in [0, 1], by which torchvision's networks were trained."""

TAPS = {"vgg16": (3, 8, 15, 22, 29), "alexnet": (1, 4, 7, 9, 11), "squeezenet": (1, 4, 7, 9, 10, 11, 12)}
"""Indices of the layers after which LPIPS reads a network's maps."""


def _vgg16() -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for wide, times in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(times):
            layers += [nn.Conv2d(channels, wide, 3, 1, 1), nn.ReLU()]
            channels = wide
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def _alexnet() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2)),
    )


class _Fire(nn.Module):
    """A narrow layer, and two wide ones beside each other."""

    def __init__(self, channels: int, narrow: int, wide: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, narrow, 1)
        self.expand1x1, self.expand3x3 = nn.Conv2d(narrow, wide, 1), nn.Conv2d(narrow, wide, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], 1)


def _squeezenet() -> nn.Sequential:
    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return nn.Sequential(
        *(nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), _Fire(64, 16, 64), _Fire(128, 16, 64)),
        *(pool(), _Fire(128, 32, 128), _Fire(256, 32, 128)),
        *(pool(), _Fire(256, 48, 192), _Fire(384, 48, 192), _Fire(384, 64, 256), _Fire(512, 64, 256)),
    )


BACKBONES = {"vgg16": _vgg16, "alexnet": _alexnet, "squeezenet": _squeezenet}


def taps(features: nn.Sequential, network: str, x: Tensor) -> Iterator[Tensor]:
    """Yield the maps [B, K, h, w] that LPIPS reads, of images that are scaled as the network expects."""
    layers = TAPS[network]
    for i, layer in enumerate(list(features)[: layers[-1] + 1]):
        x = layer(x)
        if i in layers:
            yield x


class VGG16Features(FeatureNetwork):
    """Features [B, 4096] of VGG16's second full layer, as precision and recall are taken with.

    The published numbers use weights of another file (the authors' own); with torchvision's, they carry this network's name.
    """

    name = "vgg16-torchvision-fc2"
    resizer = "antialiased bilinear to 224x224"
    width = 4096

    def __init__(self) -> None:
        super().__init__()
        self.features = _vgg16()
        self.classifier = nn.Sequential(
            *(nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()),
            *(nn.Dropout(), nn.Linear(4096, 1000)),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = resized(in_channels(x, 3), 224, 224)
        mean, deviation = (x.new_tensor(v).view(1, 3, 1, 1) for v in (MEAN, DEVIATION))
        x = self.features((x * 0.5 + 0.5 - mean) / deviation).flatten(1)
        return self.classifier[:5](x)
