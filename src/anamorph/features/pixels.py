"""Pixels as features: all of them, or the directions in which they vary most."""

from __future__ import annotations

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.progress import Progress, no_progress
from anamorph.core.signal import Image, Source
from anamorph.features.moments import Moments
from anamorph.features.network import FeatureNetwork, in_channels, resized

__all__ = ["PrincipalPixels", "RawPixels", "fit_principal", "network_image"]

SIDE = 32
"""Larger images are reduced to this size."""
BATCH = 1024


def network_image(image: Image, side: int = SIDE) -> Image:
    """Return the size in which a small network looks at images: their own, or, of the same proportions, with `side` on the
    longer.
    """
    longest = max(image.height, image.width)
    if longest <= side:
        return image
    return Image(image.channels, max(1, round(image.height * side / longest)), max(1, round(image.width * side / longest)))


def _resizer(image: Image) -> str:
    return f"antialiased bilinear to {image.height}x{image.width}"


class RawPixels(FeatureNetwork):
    """All pixels [B, C * H * W] of images, in the size of an image."""

    def __init__(self, image: Image) -> None:
        super().__init__()
        self.image, self.name, self.resizer, self.width = image, "pixels", _resizer(image), image.num_values

    def forward(self, x: Tensor) -> Tensor:
        return resized(in_channels(x, self.image.channels), self.image.height, self.image.width).flatten(1)


class PrincipalPixels(FeatureNetwork):
    """The principal components [B, D] of pixels: their coordinates along directions [D, C * H * W] from a mean."""

    mean: Tensor
    directions: Tensor

    def __init__(self, image: Image, width: int) -> None:
        super().__init__()
        self.pixels, self.width = RawPixels(image), width
        self.name, self.resizer = f"pixels-pca{width}", _resizer(image)
        self.register_buffer("mean", torch.zeros(image.num_values))
        self.register_buffer("directions", torch.zeros(width, image.num_values))

    @property
    def image(self) -> Image:
        return self.pixels.image

    def forward(self, x: Tensor) -> Tensor:
        return (self.pixels(x) - self.mean) @ self.directions.mT


@torch.no_grad()
def fit_principal(source: Source, width: int = 64, n: int = 10_000, progress: Progress = no_progress) -> PrincipalPixels:
    """Return the directions in which the pixels of n images of a source vary most, each with its largest number positive.

    Raises: UserError for a source of no images, or fewer images or pixels than directions.
    """
    if not isinstance(source.signal, Image):
        raise UserError("pixels as features need images, and this source holds sounds")
    image, n = network_image(source.signal), min(n, source.size)
    if not 1 <= width < min(n, image.num_values + 1):
        raise UserError(
            f"{width} components need more than {width} images of at least as many pixels, got {n} of "
            f"{image.num_values}: take fewer"
        )
    pixels, moments = RawPixels(image), Moments(image.num_values)
    for start in range(0, n, BATCH):
        moments.add(pixels(source.take(start, min(BATCH, n - start)).signals))
        progress(min(start + BATCH, n), n)
    vectors = torch.linalg.eigh(moments.covariance).eigenvectors.flip(1)[:, :width].mT
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    network = PrincipalPixels(image, width)
    network.mean.copy_(moments.mean)
    network.directions.copy_(vectors * largest.sign())
    return network.eval()
