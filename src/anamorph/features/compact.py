"""A small convolutional network that is trained on a source's own images in about a minute."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from anamorph.core.signal import Image
from anamorph.features.network import ClassifierNetwork, FeatureNetwork, in_channels, resized

__all__ = ["CompactClassifier", "CompactNetwork"]

WIDTHS = (24, 48, 96, 96)
FEATURES = 128


def _trunk(image: Image) -> nn.Sequential:
    """Features [B, 128] of images of this very size: strided convolutions down to 4 pixels, then a layer over what is left."""
    layers: list[nn.Module] = []
    channels, height, width = image.channels, image.height, image.width
    for i, wide in enumerate(WIDTHS):
        stride = 2 if max(height, width) > 4 and i != 2 else 1
        layers += [nn.Conv2d(channels, wide, 3, stride, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
        channels, height, width = wide, -(-height // stride), -(-width // stride)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, FEATURES))


class CompactNetwork(FeatureNetwork):
    """Features [B, 128] that were learned without labels."""

    def __init__(self, image: Image, name: str) -> None:
        super().__init__()
        self.image, self.name, self.width = image, name, FEATURES
        self.resizer = f"antialiased bilinear to {image.height}x{image.width}"
        self.trunk = _trunk(image)

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(resized(in_channels(x, self.image.channels), self.image.height, self.image.width))


class CompactClassifier(ClassifierNetwork):
    """Features [B, 128] that were learned with labels, and the classes of each label, {name: how many}."""

    def __init__(self, image: Image, name: str, classes: Mapping[str, int]) -> None:
        super().__init__()
        self.image, self.name, self.width, self.classes = image, name, FEATURES, dict(classes)
        self.resizer = f"antialiased bilinear to {image.height}x{image.width}"
        self.trunk = _trunk(image)
        self.heads = nn.ModuleDict({label: nn.Linear(FEATURES, count) for label, count in classes.items()})

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(resized(in_channels(x, self.image.channels), self.image.height, self.image.width))

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Return the logits [B, classes] of each label."""
        features = F.relu(self(x))
        return {label: head(features) for label, head in self.heads.items()}

    def probabilities(self, x: Tensor) -> dict[str, Tensor]:
        return {label: logits.softmax(1) for label, logits in self.logits(x).items()}
