"""Images laid out in rows, with captions, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.files import replacing

__all__ = ["Row", "as_picture", "rows_of", "save_grid", "save_picture", "sheet"]

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
    """One image [C, H, W] in [-1, 1] as a picture, clipped; two channels are shown as red and green."""
    array = (image.detach().float().cpu().clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8).movedim(0, -1).numpy()
    if array.shape[-1] == 1:
        return Pillow.fromarray(array[..., 0])
    if array.shape[-1] == 2:
        array = np.concatenate([array, np.zeros_like(array[..., :1])], -1)
    return Pillow.fromarray(array)


def rows_of(images: Tensor, columns: int | None = None) -> list[Row]:
    """Images [n, C, H, W] as rows without captions, in a square or in so many columns."""
    columns = columns or max(1, int(np.ceil(np.sqrt(len(images)))))
    return [Row("", images[i : i + columns]) for i in range(0, len(images), columns)]


def sheet(rows: Sequence[Row], title: str = "") -> Pillow.Image:
    """Rows of images of one size on white paper, captions on the left, a title above; shrunk where they would not fit.

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
    top = MARGIN + (TEXT + MARGIN if title else 0)
    page = (
        max(left + columns * (width + space) - space, MARGIN + _width(title)) + MARGIN,
        top + len(rows) * (height + space) - space + MARGIN,
    )
    if max(page) > LARGEST_SIDE:
        raise UserError(f"the picture would be {page[0]}x{page[1]} pixels: show fewer images")
    paper = Pillow.new("RGB", page, PAPER)
    draw = ImageDraw.Draw(paper)
    draw.text((MARGIN, MARGIN), title, INK, _font())
    for i, row in enumerate(rows):
        y = top + i * (height + space)
        draw.text((MARGIN, y + (height - TEXT) / 2), row.caption, INK, _font())
        for j, image in enumerate(row.images):
            if image is not None:
                _paste(paper, as_picture(image), (width, height), (left + j * (width + space), y))
    return paper


def _paste(paper: Pillow.Image, cell: Pillow.Image, size: tuple[int, int], place: tuple[int, int]) -> None:
    cell = cell.resize(size, Pillow.Resampling.BOX if size[0] < cell.width else Pillow.Resampling.NEAREST)
    paper.paste(cell.convert("RGB"), place, cell if cell.mode == "RGBA" else None)


def save_grid(path: Path | str, images: Tensor, columns: int | None = None, title: str = "") -> None:
    """Write images [n, C, H, W] in [-1, 1] as one PNG."""
    save_picture(Path(path), sheet(rows_of(images, columns), title))


def save_picture(path: Path, picture: Pillow.Image) -> None:
    """Write a PNG, whole or not at all."""
    with replacing(path) as temporary:
        picture.save(temporary, "PNG")


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(TEXT)


def _width(text: str) -> int:
    return int(np.ceil(_font().getlength(text)))
