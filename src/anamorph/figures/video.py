"""Images one after the other: animated WebP and PNG, and MP4 where imageio-ffmpeg is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.files import atomic_write
from anamorph.figures.grid import as_picture

__all__ = ["KINDS", "check_kind", "save_video"]

KINDS = (".webp", ".png", ".mp4")
SMALLEST_FRAME = 256
"""Smaller images are enlarged by a whole number."""


def save_video(path: Path, images: Tensor, frames_per_second: float = 25.0) -> None:
    """Write images [n, C, H, W] in [-1, 1] as a film that runs forth and back, `rate` of them a second, without end.

    Raises: UserError for a kind of file that is not known, or an MP4 without the extra that it needs.
    """
    kind = check_kind(path)
    frames = [_frame(image) for image in [*images, *images.flip(0)[1:-1]]]
    with atomic_write(path) as temporary:
        if kind == ".mp4":
            _write_mp4(temporary, frames, frames_per_second)
        else:
            duration = round(1000 / frames_per_second)
            options = {"lossless": True} if kind == ".webp" else {}
            form = "WEBP" if kind == ".webp" else "PNG"
            frames[0].save(temporary, form, save_all=True, append_images=frames[1:], duration=duration, loop=0, **options)


def check_kind(path: Path) -> str:
    """Return the ending of a film's name. Raises: UserError for one that is not known."""
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise UserError(f"a film is written as {', '.join(KINDS)}; got {path.name}")
    return kind


def _frame(image: Tensor) -> Pillow.Image:
    picture = as_picture(image)
    scale = max(1, SMALLEST_FRAME // max(picture.size))
    size = (picture.width * scale, picture.height * scale)
    return picture.resize(size, Pillow.Resampling.NEAREST).convert("RGBA" if picture.mode == "RGBA" else "RGB")


def _write_mp4(path: Path, frames: list[Pillow.Image], rate: float) -> None:
    try:
        from imageio_ffmpeg import write_frames
    except ImportError as error:
        raise UserError("an MP4 needs `pip install anamorph[video]`; a .webp needs nothing more") from error
    even = [np.asarray(_even(frame.convert("RGB"))) for frame in frames]
    size = (even[0].shape[1], even[0].shape[0])
    writer = write_frames(str(path), size, fps=rate, output_params=["-f", "mp4"], macro_block_size=2, quality=8)
    writer.send(None)
    for frame in even:
        writer.send(np.ascontiguousarray(frame))
    writer.close()


def _even(frame: Pillow.Image) -> Pillow.Image:
    """MP4's colours are stored two by two pixels."""
    return frame.crop((0, 0, frame.width + frame.width % 2, frame.height + frame.height % 2))
