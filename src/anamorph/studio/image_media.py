"""Signals as bytes that are sent or saved: pictures and films of images; `sound_media.py` does the same for sounds."""

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

__all__ = ["FileKind", "atlas", "distance", "encode_signals", "film", "frame", "frames", "png", "squared_error", "table"]

FileKind = Literal["png", "webp", "mp4", "wav"]

LOSSLESS_PIXELS = 128 * 128
"""Live pictures of up to this size are lossless. For larger ones a JPEG is smaller, and fifty times faster to encode.

What is saved is lossless at any size.
"""


def frame(image: Tensor) -> tuple[str, bytes]:
    """Encode an image [C, H, W] in [-1, 1] as a live picture; return its media type and its bytes."""
    picture, out = as_picture(image), BytesIO()
    if picture.width * picture.height <= LOSSLESS_PIXELS:
        picture.save(out, "WEBP", lossless=True, method=0)
        return "image/webp", out.getvalue()
    if picture.mode == "RGBA":
        picture.save(out, "WEBP", quality=90, method=0)
        return "image/webp", out.getvalue()
    picture.save(out, "JPEG", quality=92)
    return "image/jpeg", out.getvalue()


def frames(signal: Signal, x: Tensor) -> list[tuple[str, bytes]]:
    """Encode signals [n, *signal.shape] to be shown live; return the media type and the bytes of each."""
    if isinstance(signal, Image):
        return [frame(image) for image in x]
    return [("audio/wav", shown_sound(sound, signal.sample_rate)) for sound in x]


def encode_signals(signal: Signal, x: Tensor, kind: FileKind, columns: int | None = None) -> bytes:
    """Encode signals [n, *signal.shape] as one file.

    Args:
        signal: kind of the signals.
        x: their values, in [-1, 1].
        kind: `png`, a picture of images or spectrograms; `webp` or `mp4`, a film of images; `wav`, sounds one after another.
        columns: of a picture; None: chosen by the number of signals.

    Raises:
        UserError: for a kind of file that such signals do not have, or a film of fewer than two frames or too many.
    """
    if isinstance(signal, Image):
        if kind == "wav":
            raise UserError("this model makes images, of which there is no wav file: choose png, webp or mp4")
        return table(x, columns) if kind == "png" else film(x, kind)
    if kind == "wav":
        return joined_sounds(x, signal.sample_rate)
    if kind == "png":
        return spectrograms(x, signal, columns)
    raise UserError("this model makes sounds, of which there are no films: choose png or wav")


def png(image: Tensor) -> bytes:
    """Encode an image [C, H, W] as a PNG of its own size."""
    out = BytesIO()
    as_picture(image).save(out, "PNG")
    return out.getvalue()


def table(images: Tensor, columns: int | None) -> bytes:
    """Encode images [n, C, H, W] as one PNG: a single one at its own size, several in rows."""
    if len(images) == 1:
        return png(images[0])
    out = BytesIO()
    sheet(rows_of(images, columns)).paint().save(out, "PNG")
    return out.getvalue()


def film(images: Tensor, kind: str) -> bytes:
    """Encode images [n, C, H, W] as a film, forwards and backwards. kind: webp or mp4.

    Raises:
        UserError: for fewer than two frames, too many, or an MP4 if the package that it needs is not installed.
    """
    if not 2 <= len(images) <= FILM_FRAMES:
        raise UserError(f"a film has 2 to {FILM_FRAMES} frames, got {len(images)}: choose another number of points")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"film.{kind}"
        save_video(path, images)
        return path.read_bytes()


def atlas(images: Sequence[Tensor], side: int, columns: int) -> bytes:
    """Encode images [C, H, W] as one WebP, in which each is a square of `side` pixels, in rows of `columns`."""
    rows = -(-len(images) // columns)
    canvas = Pillow.new("RGB", (columns * side, rows * side))
    for i, image in enumerate(images):
        picture = as_picture(image).convert("RGB")
        scaled = picture.resize((side, side), Pillow.Resampling.BOX if picture.width >= side else Pillow.Resampling.NEAREST)
        canvas.paste(scaled, (i % columns * side, i // columns * side))
    out = BytesIO()
    canvas.save(out, "WEBP", quality=80, method=2)
    return out.getvalue()


def distance(signal: Signal, a: Tensor, b: Tensor) -> list[float]:
    """Return the distances [n] between signals a and b, both [n, *signal.shape].

    Those of images are mean squared errors, those of sounds log-spectral distances in decibels.
    """
    if isinstance(signal, Image):
        return squared_error(a, b)
    decibels: list[float] = log_spectral_distance(a.clamp(-1, 1), b.to(a), signal.sample_rate).tolist()
    return decibels


def squared_error(a: Tensor, b: Tensor) -> list[float]:
    """Return the mean squared errors [n] between images [n, C, H, W], with pixels clipped to [-1, 1]."""
    errors: list[float] = (a.clamp(-1, 1) - b.to(a).clamp(-1, 1)).square().flatten(1).mean(1).tolist()
    return errors
