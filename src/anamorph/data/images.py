"""Datasets of images: stored pixels, labels, a split and an order."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.signal import Batch, Image, Label
from anamorph.data.dataset import Dataset
from anamorph.data.order import Integers, coins, indices

__all__ = ["Bytes", "Images", "InMemory", "Pixels", "images_of", "to_signal"]

Bytes = NDArray[np.uint8]


class Pixels(Protocol):
    """Stored images as bytes."""

    @property
    def image(self) -> Image: ...
    @property
    def fingerprint(self) -> str:
        """Hash of the content, wherever it is stored."""
        ...

    def __len__(self) -> int: ...
    def read(self, rows: Integers) -> Bytes:
        """Return images [n, C, H, W]."""
        ...


@dataclass(frozen=True)
class InMemory:
    """Images [N, C, H, W] held in memory."""

    array: Bytes

    @property
    def image(self) -> Image:
        return Image(*self.array.shape[1:])

    @property
    def fingerprint(self) -> str:
        return hashlib.blake2b(np.ascontiguousarray(self.array).data, digest_size=8).hexdigest()

    def __len__(self) -> int:
        return len(self.array)

    def read(self, rows: Integers) -> Bytes:
        return self.array[rows]


@dataclass(frozen=True, repr=False)
class Images(Dataset):
    """A dataset of images; see `Dataset` for its other fields.

    Attributes:
        pixels: the stored images, of all splits.
        mirror: flip images left to right at half of the positions.
    """

    name: str
    pixels: Pixels
    rows: Integers
    labels: tuple[Label, ...] = ()
    values: Mapping[str, Integers] = field(default_factory=dict)
    seed: int | None = 0
    mirror: bool = False
    notes: tuple[str, ...] = ()

    @property
    def signal(self) -> Image:
        return self.pixels.image

    @property
    def fingerprint(self) -> str:
        return self._digest(self.pixels.fingerprint, str(self.signal), self.seed, self.mirror, self.labels)

    def take(self, start: int, count: int, level: int = 0) -> Batch:
        rows = self.rows[indices(self.size, start, count, self.seed)]
        pixels = self.pixels.read(rows)
        if self.mirror:
            flipped = coins(self.size, start, count, self.seed or 0)
            pixels[flipped] = pixels[flipped, ..., ::-1]
        return Batch(to_signal(pixels, level), self._labels_of(rows))

    def in_order(self) -> Images:
        """Return the same images in their own order and unmirrored, as measurements need them."""
        return replace(self, seed=None, mirror=False)

    def shuffled(self) -> Images:
        """Return the same images unmirrored, in an order that is always the same: the first few are a fair selection."""
        return replace(self, seed=0, mirror=False)

    def with_labels(self, names: Sequence[str]) -> Images:
        return replace(self, labels=self._labels_named(names))


def images_of(source: Dataset) -> Images:
    """Return a source of images as such. Raises: UserError if it holds something else."""
    if not isinstance(source, Images):
        raise UserError(f"expected images, and {source.name} holds {source.signal.noun}s")
    return source


def to_signal(pixels: Bytes, level: int = 0) -> Tensor:
    """Convert bytes [n, C, H, W] to floats in [-1, 1], halved `level` times by averaging 2x2 boxes."""
    x = np.multiply(pixels, np.float32(2 / 255), dtype=np.float32)
    x -= 1
    if level:
        n, c, h, w = x.shape
        side = 2**level
        if h % side or w % side:
            raise UserError(f"images of {h}x{w} cannot be halved {level} times: use a size divisible by {side}")
        x = x.reshape(n, c, h // side, side, w // side, side).mean((3, 5))
    return torch.from_numpy(x)
