"""Lay out images in rows, with captions, as one picture (PNG or SVG)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.files import atomic_write

__all__ = ["Row", "Sheet", "as_picture", "rows_of", "save_grid", "save_picture", "sheet"]

INK, PAPER, MARGIN, TEXT = "#333333", "#ffffff", 12, 14
SMALLEST_CELL = 64
"""Images smaller than this are enlarged by a whole number, so that their pixels can be seen."""
LARGEST_SIDE = 16_000


@dataclass(frozen=True)
class Row:
    """A row of a sheet: its caption, and images [n, C, H, W] in [-1, 1]; None leaves a cell empty."""

    caption: str
    images: Sequence[Tensor | None] | Tensor


def as_picture(image: Tensor) -> Pillow.Image:
    """Convert one image [C, H, W] in [-1, 1] to a PIL image, clipped; two channels are shown as red and green."""
    array = (image.detach().float().cpu().clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8).movedim(0, -1).numpy()
    if array.shape[-1] == 1:
        return Pillow.fromarray(array[..., 0])
    if array.shape[-1] == 2:
        array = np.concatenate([array, np.zeros_like(array[..., :1])], -1)
    return Pillow.fromarray(array)


def rows_of(images: Tensor, columns: int | None = None) -> list[Row]:
    """Arrange images [n, C, H, W] in rows without captions, in a square or in the given number of columns."""
    columns = columns or max(1, int(np.ceil(np.sqrt(len(images)))))
    return [Row("", images[i : i + columns]) for i in range(0, len(images), columns)]


@dataclass(frozen=True)
class Sheet:
    """A page: its size, texts with their positions, and pictures with their positions and sizes."""

    size: tuple[int, int]
    texts: list[tuple[int, float, str]]
    cells: list[tuple[int, int, int, int, Pillow.Image]]

    def paint(self) -> Pillow.Image:
        """Render the page as pixels, on white."""
        paper = Pillow.new("RGB", self.size, PAPER)
        draw = ImageDraw.Draw(paper)
        for x, y, text in self.texts:
            draw.text((x, y), text, INK, _font())
        for x, y, width, height, cell in self.cells:
            smaller = width < cell.width
            resized = cell.resize((width, height), Pillow.Resampling.BOX if smaller else Pillow.Resampling.NEAREST)
            paper.paste(resized.convert("RGB"), (x, y), resized if resized.mode == "RGBA" else None)
        return paper

    def svg(self) -> str:
        """Render the page as SVG text, with each picture at its own resolution."""
        width, height = self.size
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
            f'<rect width="100%" height="100%" fill="{PAPER}"/>',
        ]
        for x, y, text in self.texts:
            place = f'x="{x}" y="{y:g}" dominant-baseline="hanging"'
            lines.append(f'<text {place} font-family="sans-serif" font-size="{TEXT}" fill="{INK}">{escape(text)}</text>')
        for x, y, w, h, cell in self.cells:
            stream = BytesIO()
            cell.save(stream, "PNG")
            data = b64encode(stream.getvalue()).decode()
            place = f'x="{x}" y="{y}" width="{w}" height="{h}" style="image-rendering:pixelated"'
            lines.append(f'<image {place} href="data:image/png;base64,{data}"/>')
        return "\n".join([*lines, "</svg>", ""])


def sheet(rows: Sequence[Row], title: str = "", headings: Sequence[str] = ()) -> Sheet:
    """Lay out rows of images of one size: captions on the left, a title above, and a heading over each column.

    Images are shrunk where they would not fit.

    Raises: UserError if there is nothing to show, or more than fits into one picture.
    """
    cells = [image for row in rows for image in row.images if image is not None]
    if not cells:
        raise UserError("there is no image to show")
    height, width = cells[0].shape[-2:]
    columns = max(len(row.images) for row in rows)
    most = LARGEST_SIDE * 3 / 4  # the rest is for captions and the space between
    scale = min(max(1, round(SMALLEST_CELL / max(height, width))), most / (columns * width), most / (len(rows) * height))
    width, height = max(1, int(width * scale)), max(1, int(height * scale))
    space = max(4, max(height, width) // 24)
    left = MARGIN + max((_width(row.caption) for row in rows), default=0)
    left += MARGIN if left > MARGIN else 0
    top = MARGIN + (TEXT + MARGIN if title else 0) + (TEXT + MARGIN // 2 if headings else 0)
    page = (
        max(left + columns * (width + space) - space, MARGIN + _width(title)) + MARGIN,
        top + len(rows) * (height + space) - space + MARGIN,
    )
    if max(page) > LARGEST_SIDE:
        raise UserError(f"the picture would be {page[0]}x{page[1]} pixels: show fewer images")
    texts: list[tuple[int, float, str]] = [(MARGIN, MARGIN, title)] if title else []
    texts += [
        (left + j * (width + space), top - TEXT - MARGIN // 2, _fit(heading, width)) for j, heading in enumerate(headings)
    ]
    pictures = []
    for i, row in enumerate(rows):
        y = top + i * (height + space)
        texts += [(MARGIN, y + (height - TEXT) / 2, row.caption)] if row.caption else []
        for j, image in enumerate(row.images):
            if image is not None:
                pictures.append((left + j * (width + space), y, width, height, as_picture(image)))
    return Sheet(page, texts, pictures)


def save_grid(path: Path | str, images: Tensor, columns: int | None = None, title: str = "") -> None:
    """Write images [n, C, H, W] in [-1, 1] as one picture."""
    save_picture(Path(path), sheet(rows_of(images, columns), title))


def save_picture(path: Path, picture: Sheet | Pillow.Image) -> None:
    """Write a PNG, or a sheet as an SVG if the name ends so; whole or not at all."""
    with atomic_write(path) as temporary:
        if path.suffix.lower() == ".svg" and isinstance(picture, Sheet):
            temporary.write_text(picture.svg(), encoding="utf-8")
        else:
            (picture.paint() if isinstance(picture, Sheet) else picture).save(temporary, "PNG")


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(TEXT)


def _width(text: str) -> int:
    return int(np.ceil(_font().getlength(text)))


def _fit(text: str, width: int) -> str:
    """Cut a text to the width of a column."""
    while len(text) > 1 and _width(text) > width:
        text = text[:-1]
    return text
