"""Images composed of layered parts, with the choice of each part as an exact label: avatars and their like."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anamorph.core.errors import UserError
from anamorph.core.signal import Image, Label
from anamorph.data.arrays import load_arrays
from anamorph.data.images import Bytes
from anamorph.data.order import Integers

__all__ = ["Layer", "LayerPart", "LayeredImages", "read_layered_images"]

MOST = 400_000
"""Where the parts combine in more ways than this, so many are picked by a fixed seed."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LayerPart:
    """One part, cut to its bounding box: the box, its colours times its opacity [h, w, 3], and its transparency [h, w, 3]."""

    box: tuple[slice, slice]
    colours: Floats
    transparency: Floats

    @staticmethod
    def of(rgba: Bytes) -> LayerPart:
        """Make a part from an image [H, W, 4] with straight alpha."""
        rows, columns = np.nonzero(rgba[..., 3])
        box = (slice(0, 0), slice(0, 0))
        if len(rows):
            box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
        opacity = rgba[box][..., 3:].astype(np.float32) / 255
        colours, transparency = rgba[box][..., :3] * opacity, np.repeat(1 - opacity, 3, axis=-1)
        return LayerPart(box, colours.astype(np.float32), transparency.astype(np.float32))


@dataclass(frozen=True)
class Layer:
    """The parts that one layer chooses from."""

    name: str
    parts: tuple[LayerPart, ...]
    fingerprint: str

    @staticmethod
    def of(name: str, stack: Bytes) -> Layer:
        """Make a layer from a stack [n, H, W, 4], without parts that look like another (any two that show nothing do)."""
        different: dict[bytes, Bytes] = {}
        for rgba in stack:
            visible = np.where(rgba[..., 3:] > 0, rgba, 0)
            different.setdefault(hashlib.blake2b(visible.tobytes(), digest_size=8).digest(), rgba)
        fingerprint = hashlib.blake2b(b"".join(different), digest_size=8).hexdigest()
        return Layer(name, tuple(LayerPart.of(rgba) for rgba in different.values()), fingerprint)


class LayeredImages:
    """Every combination of the layers' parts, composed over white when it is read and reduced by averaging boxes.

    Raises: UserError if the requested size is not the parts' own divided by a whole number.
    """

    def __init__(self, layers: Sequence[Layer], side: int, image: Image) -> None:
        self.image, self.layers, self.side = image, tuple(layers), side
        if image.height != image.width or side % image.height or image.channels == 4:
            fitting = ", ".join(str(side // k) for k in (1, 2, 4, 8, 16) if side % k == 0)
            raise UserError(
                f"these parts are {side}x{side} RGB: choose one of the sizes {fitting} and 1 or 3 channels, got {image}"
            )
        counts = [len(layer.parts) for layer in self.layers]
        every = float(np.prod([float(n) for n in counts]))
        self.choices = _every(counts) if every <= MOST else _some(counts)

    @property
    def fingerprint(self) -> str:
        return hashlib.blake2b("".join(layer.fingerprint for layer in self.layers).encode(), digest_size=8).hexdigest()

    @property
    def labels(self) -> tuple[Label, ...]:
        return tuple(Label(layer.name, tuple(map(str, range(len(layer.parts))))) for layer in self.layers)

    def __len__(self) -> int:
        return len(self.choices)

    def read(self, rows: Integers) -> Bytes:
        out = np.empty((len(rows), *self.image.shape), np.uint8)
        for i, choice in enumerate(self.choices[rows]):
            out[i] = self._compose(choice)
        return out

    def _compose(self, choice: Integers) -> Bytes:
        """Return one image [C, H, W]."""
        canvas = np.full((self.side, self.side, 3), 255, np.float32)
        for layer, number in zip(self.layers, choice, strict=True):
            part = layer.parts[number]
            under = canvas[part.box]
            under *= part.transparency
            under += part.colours
        pixels = _boxes(canvas, self.side // self.image.height)
        if self.image.channels == 1:
            pixels = pixels @ np.array([[0.299], [0.587], [0.114]], np.float32)
        return (pixels + np.float32(0.5)).astype(np.uint8).transpose(2, 0, 1)


def _boxes(canvas: Floats, box: int) -> Floats:
    """Return the means [h, w, 3] of boxes; rows first, since those are contiguous."""
    if box == 1:
        return canvas
    side = len(canvas) // box
    rows = canvas.reshape(side, box, -1).sum(1)
    boxes: Floats = rows.reshape(side, side, box, 3).sum(2) / np.float32(box * box)
    return boxes


def _every(counts: Sequence[int]) -> Integers:
    return np.stack(np.unravel_index(np.arange(np.prod(counts)), counts), 1).astype(np.int64)


def _some(counts: Sequence[int]) -> Integers:
    generator = np.random.Generator(np.random.Philox(key=[0, 0]))
    return np.stack([generator.integers(0, n, MOST) for n in counts], 1)


def read_layered_images(path: Path) -> tuple[list[Layer], int]:
    """Read the layers of an .npz of RGBA stacks [n, H, H, 4], bottom first, and their side.

    An array "order", where there is one, names them in painting order; leading digits of a name are left out.
    Raises: UserError if the arrays are no such stacks.
    """
    arrays = load_arrays(path)
    order = [str(name) for name in arrays.pop("order", np.array(sorted(arrays)))]
    unknown = [name for name in order if name not in arrays]
    stacks = [arrays[name] for name in order if name in arrays]
    sides = {stack.shape[1:] for stack in stacks}
    if unknown or not stacks or len(sides) != 1 or any(s.ndim != 4 or s.shape[3] != 4 or s.dtype != np.uint8 for s in stacks):
        raise UserError(f"{path} holds no layered parts: expected uint8 arrays [n, H, H, 4] of one size, got {list(arrays)}")
    names = [name.lstrip("0123456789").lower() for name in order]
    return [Layer.of(name, stack) for name, stack in zip(names, stacks, strict=True)], stacks[0].shape[1]
