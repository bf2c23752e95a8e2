"""Base classes of feature networks: modules from images to features, with a name and a way to resize images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anamorph.core.errors import UserError
from anamorph.core.fingerprint import fingerprint_of

__all__ = ["ClassifierNetwork", "DistanceNetwork", "FeatureNetwork", "image_distance", "in_channels", "resized"]


class FeatureNetwork(nn.Module, ABC):
    """Features [B, D] of images [B, C, H, W] in [-1, 1] of any size.

    name: stands beside every number that is taken with it. resizer: how images come to its size, in words. width: D.
    """

    name: str
    resizer: str
    width: int

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor: ...

    @property
    def fingerprint(self) -> str:
        """Hash of the network's name, its resizer and its weights."""
        return fingerprint_of(self, f"{self.name}|{self.resizer}|{self.width}")


class ClassifierNetwork(FeatureNetwork):
    """A feature network that also classifies."""

    @abstractmethod
    def probabilities(self, x: Tensor) -> Mapping[str, Tensor]:
        """Return the probabilities [B, classes] of each label, by its name."""


class DistanceNetwork(FeatureNetwork):
    """A feature network with a distance between images that was fitted to human judgements."""

    @abstractmethod
    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distances [B] between images [B, C, H, W] and others."""


@torch.no_grad()
def image_distance(network: FeatureNetwork, a: Tensor, b: Tensor) -> Tensor:
    """Return the network's own distance of images [B, C, H, W] from others, [B], or the squared one of their features."""
    if isinstance(network, DistanceNetwork):
        return network.distance(a, b)
    return (network(a) - network(b)).square().sum(1)


def resized(x: Tensor, height: int, width: int) -> Tensor:
    """Return images [B, C, H, W] of another size, by antialiased bilinear interpolation; of the same size, as they are."""
    if x.shape[2:] == (height, width):
        return x
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=False, antialias=True)


def in_channels(x: Tensor, channels: int) -> Tensor:
    """Return images [B, C, H, W] with so many channels: grey is repeated, and an alpha channel is left out.

    Raises: UserError if that is not enough.
    """
    if x.dim() != 4:
        raise UserError(f"a feature network reads images [B, C, H, W], got {list(x.shape)}")
    if x.shape[1] == channels:
        return x
    if x.shape[1] == 1:
        return x.expand(-1, channels, -1, -1)
    if x.shape[1] == channels + 1 and channels in (1, 3):
        return x[:, :channels]
    raise UserError(f"the feature network reads images of {channels} channels, got {x.shape[1]}: train one on these images")
