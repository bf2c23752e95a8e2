"""Sounds to look at: how loud each pitch is at each moment, on the mel scale and in decibels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from anamorph.core.errors import UserError
from anamorph.core.spectrum import log_mel, mel
from anamorph.figures.curves import save_figure
from anamorph.figures.grid import Row

Levels = NDArray[np.float32]

__all__ = ["PANEL", "save_spectrograms", "shades"]

SPAN_DB, LOUD = 75.0, 0.998
"""Pictures show so much below the level that this share of points is under."""
MOST_PANELS = 256
DPI, PANEL, GAP, RIGHT, BOTTOM = 110, (208, 126), 18, 84, 40
"""Width and height of one spectrogram, the space between two, and the margins for the scale and the times, in pixels."""
INK = "#333333"


@dataclass(frozen=True)
class _Page:
    """Where panels lie on a page, in pixels: so many columns and rows, and the margins around them."""

    columns: int
    rows: int
    left: int
    top: int

    @property
    def size(self) -> tuple[int, int]:
        width = self.left + self.columns * (PANEL[0] + GAP) - GAP + RIGHT
        return width, self.top + self.rows * (PANEL[1] + GAP) - GAP + BOTTOM

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Return the left and the upper edge of a panel."""
        return self.left + column * (PANEL[0] + GAP), self.top + row * (PANEL[1] + GAP)


class _Canvas:
    """White paper in pixels from the upper left, for shades and lines; and the figure that texts are written on."""

    def __init__(self, page: _Page) -> None:
        from matplotlib.figure import Figure

        self.width, self.height = page.size
        self.pixels = np.full((self.height, self.width, 3), 255, np.uint8)
        self.figure: Figure = Figure(figsize=(self.width / DPI, self.height / DPI), dpi=DPI)

    def fill(self, x: int, y: int, shades: NDArray[np.uint8]) -> None:
        self.pixels[y : y + shades.shape[0], x : x + shades.shape[1]] = shades

    def write(self, x: float, y: float, text: str, size: float = 7, **how: Any) -> None:
        self.figure.text(x / self.width, 1 - y / self.height, text, fontsize=size, color=INK, **how)

    def tick(self, x: int, y: int, width: int, height: int) -> None:
        self.fill(x, y, np.full((height, width, 3), 0x33, np.uint8))

    def save(self, path: Path) -> None:
        self.figure.figimage(self.pixels, origin="upper")
        save_figure(path, self.figure)


def save_spectrograms(path: Path, rows: Sequence[Row], sample_rate: int, title: str = "", headings: Sequence[str] = ()) -> None:
    """Write rows of sounds [n, C, T] in [-1, 1] as one picture (PNG, or SVG by name) of log-mel spectrograms on one scale.

    Raises: UserError if there is nothing to show, or more than fits into one picture.
    """
    sounds = [x for row in rows for x in row.images if x is not None]
    if not sounds:
        raise UserError("there is no sound to show")
    columns = max(len(row.images) for row in rows)
    if columns * len(rows) > MOST_PANELS:
        raise UserError(f"the picture would have {columns * len(rows)} spectrograms, over {MOST_PANELS}: show fewer sounds")
    levels = [log_mel(x[None].cpu(), sample_rate)[0].numpy() for x in sounds]
    top = 5 * math.ceil(float(np.quantile(np.concatenate([level.ravel() for level in levels]), LOUD)) / 5)
    captions = 8 * max(len(row.caption) for row in rows)
    page = _Page(columns, len(rows), 64 + captions, 14 + 32 * bool(title) + 22 * bool(headings))
    canvas, left = _Canvas(page), iter(levels)
    for i, row in enumerate(rows):
        shown = [j for j, x in enumerate(row.images) if x is not None]
        for j in shown:
            x, y = page.corner(i, j)
            canvas.fill(x, y, shades(next(left), top))
            if i + 1 == len(rows) or j >= len(rows[i + 1].images):
                _times(canvas, x, y + PANEL[1], sounds[0].shape[-1] / sample_rate)
        if shown:
            _pitches(canvas, *page.corner(i, shown[0]), sample_rate)
        canvas.write(14, page.corner(i, 0)[1] + PANEL[1] / 2, row.caption, 9, va="center")
    for j, heading in enumerate(headings[:columns]):
        canvas.write(page.corner(0, j)[0] + PANEL[0] / 2, page.top - 6, heading, 9, ha="center", va="bottom")
    canvas.write(14, 14, title, 10, va="top")
    _scale(canvas, page, top)
    canvas.save(path)


def shades(level: Levels, top: float) -> NDArray[np.uint8]:
    """Decibels [bands, frames] as the colours of a panel [height, width, 3], low pitches at the bottom; what is SPAN_DB below
    the top is black."""
    from matplotlib import colormaps

    sized = np.asarray(Pillow.fromarray(level[::-1]).resize(PANEL, Pillow.Resampling.BILINEAR))
    colours: NDArray[np.uint8] = colormaps["magma"]((sized - top + SPAN_DB) / SPAN_DB, bytes=True)
    return colours[..., :3]


def _pitches(canvas: _Canvas, x: int, y: int, rate: int) -> None:
    """Frequencies left of a panel."""
    for hertz in [f for f in (250, 500, 1000, 2000, 4000, 8000, 16000) if f <= rate / 2][-4:]:
        at = y + round((PANEL[1] - 1) * (1 - mel(hertz) / mel(rate / 2)))
        canvas.tick(x - 4, at, 3, 1)
        canvas.write(x - 7, at, f"{hertz / 1000:g}", ha="right", va="center")
    canvas.write(x - 34, y + PANEL[1] / 2, "kHz", ha="center", va="center", rotation="vertical")


def _times(canvas: _Canvas, x: int, y: int, seconds: float) -> None:
    """Seconds below a panel."""
    step = 10 ** math.floor(math.log10(seconds / 2))
    step *= next(f for f in (1, 2, 5, 10) if seconds / (step * f) <= 5.5)
    for i in range(int(0.9 * seconds / step) + 1):
        at = x + round((PANEL[0] - 1) * i * step / seconds)
        canvas.tick(at, y + 1, 1, 3)
        canvas.write(at, y + 7, f"{i * step:g}", ha="center", va="top")
    canvas.write(x + PANEL[0], y + 7, "s", ha="right", va="top")


def _scale(canvas: _Canvas, page: _Page, top: float) -> None:
    """Return the bar of colours, right of the first rows."""
    x, y = canvas.width - RIGHT + 16, page.top
    height = page.corner(min(page.rows, 3) - 1, 0)[1] + PANEL[1] - y
    bar = np.linspace(top - SPAN_DB, top, height, dtype=np.float32)[:, None].repeat(2, 1)
    canvas.fill(x, y, np.asarray(Pillow.fromarray(shades(bar, top)).resize((10, height))))
    for level in range(20 * math.floor(top / 20), math.ceil(top - SPAN_DB) - 1, -20):
        at = y + round((height - 1) * (top - level) / SPAN_DB)
        canvas.tick(x + 11, at, 3, 1)
        canvas.write(x + 17, at, f"{level:g}".replace("-", "\N{MINUS SIGN}"), va="center")
    canvas.write(x + 52, y + height / 2, "dB, full scale: 0", ha="center", va="center", rotation="vertical")
