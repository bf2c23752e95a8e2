"""Signals as the bytes that are sent or saved: pictures of images; of sounds, see `sounds.py`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Literal

from PIL import Image as Pillow
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.signal import Image, Signal
from anamorph.figures.grid import as_picture, rows_of, sheet
from anamorph.figures.video import save_video
from anamorph.metrics.sound import log_spectral_distance
from anamorph.studio.limits import FILM_FRAMES
from anamorph.studio.sound_media import joined_sounds, shown_sound, spectrograms

__all__ = ["Saved", "atlas", "distance", "film", "frame", "frames", "png", "saved", "squared_error", "table"]

Saved = Literal["png", "webp", "mp4", "wav"]

EXACT = 128 * 128
"""Pixels up to which a live picture is sent as it is. Beyond, a JPEG is smaller and fifty times quicker to make; what is saved
is exact at any size."""


def frame(image: Tensor) -> tuple[str, bytes]:
    """A live picture of an image [C, H, W] in [-1, 1]: its media type and its bytes."""
    picture, out = as_picture(image), BytesIO()
    if picture.width * picture.height <= EXACT:
        picture.save(out, "WEBP", lossless=True, method=0)
        return "image/webp", out.getvalue()
    if picture.mode == "RGBA":
        picture.save(out, "WEBP", quality=90, method=0)
        return "image/webp", out.getvalue()
    picture.save(out, "JPEG", quality=92)
    return "image/jpeg", out.getvalue()


def frames(signal: Signal, x: Tensor) -> list[tuple[str, bytes]]:
    """What is shown of signals [n, *signal.shape] while something is dragged."""
    if isinstance(signal, Image):
        return [frame(image) for image in x]
    return [("audio/wav", shown_sound(sound, signal.sample_rate)) for sound in x]


def saved(signal: Signal, x: Tensor, kind: Saved, columns: int | None = None) -> bytes:
    """Signals [n, *signal.shape] as a file: a picture (of images, or of spectrograms), a film of images, or a sound.

    Raises: UserError for a film of sounds, the sound of images, or a film of fewer than two frames or too many.
    """
    if isinstance(signal, Image):
        if kind == "wav":
            raise UserError("this model makes images, which cannot be heard: ask for png, webp or mp4")
        return table(x, columns) if kind == "png" else film(x, kind)
    if kind == "wav":
        return joined_sounds(x, signal.sample_rate)
    if kind == "png":
        return spectrograms(x, signal, columns)
    raise UserError("this model makes sounds, of which there are no films: ask for png or wav")


def png(image: Tensor) -> bytes:
    """An image [C, H, W] at its own size."""
    out = BytesIO()
    as_picture(image).save(out, "PNG")
    return out.getvalue()


def table(images: Tensor, columns: int | None) -> bytes:
    """Images [n, C, H, W] as one PNG: a single one at its own size, several in rows."""
    if len(images) == 1:
        return png(images[0])
    out = BytesIO()
    sheet(rows_of(images, columns)).paint().save(out, "PNG")
    return out.getvalue()


def film(images: Tensor, kind: str) -> bytes:
    """Images [n, C, H, W] as a film, forth and back. kind: webp or mp4.

    Raises: UserError for fewer than two frames, too many, or an MP4 without the extra that it needs.
    """
    if not 2 <= len(images) <= FILM_FRAMES:
        raise UserError(f"a film has 2 to {FILM_FRAMES} frames, got {len(images)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"film.{kind}"
        save_video(path, images)
        return path.read_bytes()


def atlas(images: Sequence[Tensor], side: int, columns: int) -> bytes:
    """Images [C, H, W] as squares of so many pixels in so many columns, as one WebP."""
    rows = -(-len(images) // columns)
    paper = Pillow.new("RGB", (columns * side, rows * side))
    for i, image in enumerate(images):
        small = as_picture(image).convert("RGB")
        scaled = small.resize((side, side), Pillow.Resampling.BOX if small.width >= side else Pillow.Resampling.NEAREST)
        paper.paste(scaled, (i % columns * side, i // columns * side))
    out = BytesIO()
    paper.save(out, "WEBP", quality=80, method=2)
    return out.getvalue()


def distance(signal: Signal, a: Tensor, b: Tensor) -> list[float]:
    """How far signals [n, *signal.shape] are from others: the mean squared error of images, the log-spectral distance in
    decibels of sounds."""
    if isinstance(signal, Image):
        return squared_error(a, b)
    far: list[float] = log_spectral_distance(a.clamp(-1, 1), b.to(a), signal.sample_rate).tolist()
    return far


def squared_error(a: Tensor, b: Tensor) -> list[float]:
    """The mean squared error [n] of images [n, C, H, W] as they are seen, pixels clipped to [-1, 1]."""
    errors: list[float] = (a.clamp(-1, 1) - b.to(a).clamp(-1, 1)).square().flatten(1).mean(1).tolist()
    return errors
