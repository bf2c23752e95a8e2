"""A drawn data set with exact factors of variation: shape, scale, angle, place and colour of one figure on black.

The factors are those of dSprites (Matthey et al. 2017); the figures have at most the symmetry of a half turn, and angles
run over a half turn, so that no two sets of factors give the same picture (but for a triangle turned over, which differs).
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anamorph.core.signal import Image, Label
from anamorph.data.images import Bytes
from anamorph.data.order import Integers

__all__ = ["Shapes", "factors"]

Floats = NDArray[np.float32]

FIGURES = ("rectangle", "ellipse", "triangle")
SCALES, ANGLES, PLACES, HUES = 5, 18, 12, 8
COUNTS = (len(FIGURES), SCALES, ANGLES, PLACES, PLACES, HUES)
NAMES = ("shape", "scale", "angle", "x", "y", "colour")


def factors(rows: Integers) -> Integers:
    """Return the factors [n, 6] of images: shape, scale, angle, x, y, colour."""
    return np.stack(np.unravel_index(rows, COUNTS), 1).astype(np.int64)


def labels() -> tuple[Label, ...]:
    colours = tuple(f"hue {360 * i // HUES}" for i in range(HUES))
    counted = [tuple(str(i) for i in range(n)) for n in COUNTS[1:-1]]
    return tuple(Label(name, classes) for name, classes in zip(NAMES, [FIGURES, *counted, colours], strict=True))


@dataclass(frozen=True)
class Shapes:
    """311,040 pictures, drawn when they are read, with edges antialiased by their distance to the pixel's centre."""

    image: Image = Image(3, 32, 32)

    @property
    def fingerprint(self) -> str:
        return "shapes-1"

    def __len__(self) -> int:
        return math.prod(COUNTS)

    def read(self, rows: Integers) -> Bytes:
        shape, scale, angle, x, y, colour = factors(rows).T
        u, v = self._turned(angle, x, y)
        half = (0.10 + 0.05 * scale / (SCALES - 1) * 2).astype(np.float32)[:, None, None]  # of the shorter axis
        distance = np.select(
            [(shape == i)[:, None, None] for i in range(3)],
            [_rectangle(u, v, half), _ellipse(u, v, half), _triangle(u, v, half)],
        )
        side = min(self.image.height, self.image.width)
        cover = np.clip(0.5 - distance * side, 0, 1)
        hues = np.array([colorsys.hsv_to_rgb(i / HUES, 0.75, 1.0) for i in range(HUES)], np.float32)[colour]
        rgb = cover[:, None] * hues[:, :, None, None] * 255  # [n, 3, H, W]
        return np.round(_in_channels(rgb, cover, self.image.channels)).astype(np.uint8)

    def _turned(self, angle: Integers, x: Integers, y: Integers) -> tuple[Floats, Floats]:
        """Coordinates [n, H, W] of every pixel in the figure's own frame; the shorter side of the image is 1."""
        height, width = self.image.height, self.image.width
        side = min(height, width)
        # The longest figure reaches 0.4 from its centre.
        centre_x = 0.4 + x / (PLACES - 1) * (width / side - 0.8)
        centre_y = 0.4 + y / (PLACES - 1) * (height / side - 0.8)
        across = ((np.arange(width) + 0.5) / side)[None, None, :] - centre_x[:, None, None]
        down = ((np.arange(height) + 0.5) / side)[None, :, None] - centre_y[:, None, None]
        turn = (angle * math.pi / ANGLES)[:, None, None]
        cos, sin = np.cos(turn), np.sin(turn)
        return (cos * across + sin * down).astype(np.float32), (cos * down - sin * across).astype(np.float32)


def _in_channels(rgb: Floats, cover: Floats, channels: int) -> Floats:
    if channels == 1:
        weights = np.array([0.299, 0.587, 0.114], np.float32)
        return np.einsum("nchw,c->nhw", rgb, weights)[:, None]
    return np.concatenate([rgb, cover[:, None] * 255], 1) if channels == 4 else rgb


def _rectangle(u: Floats, v: Floats, half: Floats) -> Floats:
    """Signed distance to a rectangle of half sides 1.6 and 0.8."""
    return np.maximum(np.abs(u) - 1.6 * half, np.abs(v) - 0.8 * half)


def _ellipse(u: Floats, v: Floats, half: Floats) -> Floats:
    """Signed distance to an ellipse of half axes 2 and 1, to first order."""
    a, b = 2 * half, half
    radius = np.hypot(u / a, v / b)
    slope = np.hypot(u / a**2, v / b**2)
    return (radius - 1) * radius / np.maximum(slope, 1e-6)


def _triangle(u: Floats, v: Floats, half: Floats) -> Floats:
    """Signed distance to an isosceles triangle of height 3 and base 2, pointing along u."""
    base = -u - half
    leg = (u - 2 * half + 3 * np.abs(v)) / math.sqrt(10)
    return np.maximum(base, leg)
