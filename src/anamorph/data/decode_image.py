"""Decode one image, of whatever format and mode, to bytes of a given size and number of channels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import IO

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from anamorph.core.errors import UserError
from anamorph.core.signal import Image
from anamorph.data.bounded_read import BadFile
from anamorph.data.images import Bytes

__all__ = [
    "LIMIT_MEGAPIXELS",
    "BadImage",
    "Survey",
    "decode",
    "decode_picture",
    "fit",
    "fit_pixels",
    "is_image_name",
    "survey",
    "survey_picture",
]

LIMIT_MEGAPIXELS = 89
"""Beyond it Pillow itself suspects a decompression bomb."""
GREY = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}


class BadImage(BadFile):
    """A file that cannot be used as an image, and why."""


@dataclass(frozen=True)
class Survey:
    """What a file's header says: its size as it is to be seen, and whether it has colour."""

    height: int
    width: int
    colour: bool


@cache
def _formats() -> tuple[str, ...]:
    Pillow.init()
    return tuple(sorted(set(Pillow.OPEN) - {"EPS", "WMF"}))  # those would start other programs to draw themselves


@cache
def _extensions() -> frozenset[str]:
    formats = set(_formats())
    return frozenset(end for end, name in Pillow.registered_extensions().items() if name in formats)


def is_image_name(name: str) -> bool:
    """Return whether a file of that name is taken for an image."""
    return "." + name.rsplit(".", 1)[-1].lower() in _extensions()


def _open(file: IO[bytes]) -> Pillow.Image:
    """Return an image whose pixels are not yet decoded."""
    try:
        image = Pillow.open(file, formats=_formats())
    except UnidentifiedImageError:
        raise BadImage("not readable as an image (it is of no format that is known)") from None
    except Exception as error:
        raise BadImage(f"not readable as an image ({error})") from error
    if image.width * image.height > LIMIT_MEGAPIXELS * 1_000_000:
        raise BadImage(f"{image.width}x{image.height} is over the limit of {LIMIT_MEGAPIXELS} megapixels: shrink it first")
    return image


def survey(file: IO[bytes]) -> Survey:
    """Read the header of an image file.

    Raises:
        BadImage: if the file is no image, or too large a one.
    """
    return survey_picture(_open(file))


def survey_picture(image: Pillow.Image) -> Survey:
    """Return the size and kind of colour of a PIL image, without decoding it."""
    # A PNG may say behind its pixels how it is turned; they are not decoded to find out.
    turned = (image.format != "PNG" or "exif" in image.info) and _orientation(image) >= 5
    height, width = (image.width, image.height) if turned else (image.height, image.width)
    return Survey(height, width, image.mode not in GREY)


def _orientation(image: Pillow.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # noqa: BLE001 (EXIF data are often damaged where the image is not)
        return 1


def decode(file: IO[bytes], target: Image) -> tuple[Bytes, set[str]]:
    """Decode an image file to bytes [C, H, W], and say which conversions that took.

    Raises:
        BadImage: if the file is no image, is damaged, or is too large.
    """
    image = _open(file)
    try:
        if image.format == "JPEG":
            side = 2 * max(target.width, target.height)  # whichever way it will be turned
            image.draft(None, (side, side))
    except Exception as error:
        raise BadImage(f"damaged or cut short ({error})") from error
    return decode_picture(image, target)


def decode_picture(image: Pillow.Image, target: Image) -> tuple[Bytes, set[str]]:
    """Convert a PIL image of any mode to bytes [C, H, W], and say which conversions that took.

    Raises:
        BadImage: if its file is damaged, or its values are not those of an image.
    """
    conversions: set[str] = set()
    try:
        image.load()
        if getattr(image, "is_animated", False):
            conversions.add("with several frames, of which the first is used")
        if _orientation(image) > 1:
            image = ImageOps.exif_transpose(image)
            conversions.add("turned upright by EXIF")
    except Exception as error:
        raise BadImage(f"damaged or cut short ({error})") from error
    plain, more = _eight_bits(image)
    return fit(plain, target, conversions | more)


def fit(image: Pillow.Image, target: Image, conversions: set[str] | None = None) -> tuple[Bytes, set[str]]:
    """Return an 8-bit image cut to the target's shape around its centre, resampled (Lanczos), in the target's channels [C, H,
    W].
    """
    conversions = set() if conversions is None else conversions
    if target.channels > 1 and image.mode in GREY:
        conversions.add("greyscale, repeated over RGB")
    elif target.channels == 1 and image.mode not in GREY:
        conversions.add("with colour, reduced to grey")
    alpha = image.mode in ("LA", "RGBA", "PA", "La", "RGBa") or "transparency" in image.info
    if alpha:
        image = image.convert("RGBA")
    elif image.mode not in ("L", "RGB"):
        conversions.add(f"converted from {image.mode}")
        image = image.convert("L" if image.mode == "1" else "RGB")
    if alpha and target.channels != 4:
        conversions.add("with transparency, laid on white")
        image = Pillow.alpha_composite(Pillow.new("RGBA", image.size, "white"), image).convert("RGB")
    image = _resample(image, target, conversions)
    array = np.asarray(image.convert({1: "L", 3: "RGB", 4: "RGBA"}[target.channels]), np.uint8)
    return np.atleast_3d(array).transpose(2, 0, 1), conversions


def fit_pixels(pixels: Bytes, target: Image) -> tuple[Bytes, set[str]]:
    """Fit bytes [C, H, W] to the target as `fit` does."""
    return fit(Pillow.fromarray(pixels.transpose(1, 2, 0) if len(pixels) > 1 else pixels[0]), target)


def _resample(image: Pillow.Image, target: Image, conversions: set[str]) -> Pillow.Image:
    if image.size == (target.width, target.height):
        return image
    scale = min(image.width / target.width, image.height / target.height)
    width, height = scale * target.width, scale * target.height
    left, top = (image.width - width) / 2, (image.height - height) / 2
    if max(left, top) >= 0.5:
        conversions.add("cropped around the centre")
    conversions.add("resized")
    premultiplied = image.convert("RGBa") if image.mode == "RGBA" else image
    size = (target.width, target.height)
    box = (left, top, left + width, top + height)
    result = premultiplied.resize(size, Pillow.Resampling.LANCZOS, box=box, reducing_gap=2.0)
    return result.convert("RGBA") if image.mode == "RGBA" else result


def _eight_bits(image: Pillow.Image) -> tuple[Pillow.Image, set[str]]:
    """Return an image of at most 8 bits per channel."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image, set()
    values = np.asarray(image).astype(np.float64)
    top = values.max(initial=0)
    if not np.isfinite(values).all() or values.min(initial=0) < 0 or top > 65535:
        raise BadImage(f"its values run from {values.min():g} to {top:g}: wanted 0 to 1, 255 or 65535")
    if image.mode == "F" and top <= 1:
        values, conversion = values * 255, "with values in 0..1, scaled to 8 bits"
    elif image.mode.startswith("I;16") or top > 255:
        values, conversion = values / 257, "of 16 bits, reduced to 8"
    else:
        conversion = "converted to 8 bits"
    return Pillow.fromarray(np.round(values).astype(np.uint8)), {conversion}


def require_decodable(channels: int) -> None:
    """Check a number of channels. Raises: UserError if files cannot be decoded to so many."""
    if channels not in (1, 3, 4):
        raise UserError(f"image files are read as 1 (grey), 3 (RGB) or 4 (RGBA) channels, got {channels}")
