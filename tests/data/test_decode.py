"""Every way in which an image file can be stored comes out as the same bytes, and conversions are reported."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms

from anamorph.core.signal import Image
from anamorph.data.decode_image import BadImage, decode, is_image_name, survey

RGB = np.zeros((8, 12, 3), np.uint8)
RGB[:, :6] = (200, 30, 30)
RGB[:, 6:] = (30, 60, 220)
RGB[0] = (250, 250, 250)  # a light row on top, to know which way is up


def stored(image: Pillow.Image, kind: str = "PNG", **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def read(file: io.BytesIO, channels: int = 3, height: int = 8, width: int = 12) -> tuple[np.ndarray, set[str]]:
    pixels, done = decode(file, Image(channels, height, width))
    assert pixels.shape == (channels, height, width)
    assert pixels.dtype == np.uint8
    return pixels.transpose(1, 2, 0), done


def test_rgb_comes_back_as_it_was() -> None:
    pixels, done = read(stored(Pillow.fromarray(RGB)))
    assert np.array_equal(pixels, RGB)
    assert not done


def _quantised(image: Pillow.Image) -> Pillow.Image:
    return image.quantize(4)


def _cmyk(image: Pillow.Image) -> Pillow.Image:
    return image.convert("CMYK")


@pytest.mark.parametrize(
    ("change", "kind", "tolerance", "note"),
    [
        (_quantised, "PNG", 1, "converted from P"),
        (_quantised, "GIF", 1, "converted from P"),
        (_cmyk, "TIFF", 1, "converted from CMYK"),
        (_cmyk, "JPEG", 40, "converted from CMYK"),
        (lambda i: i.convert("YCbCr"), "TIFF", 3, "converted from YCbCr"),
        (lambda i: i, "BMP", 0, None),
        (lambda i: i, "WEBP", 40, None),
        (lambda i: i, "JPEG", 40, None),
        (lambda i: i, "PPM", 0, None),
    ],
)
def test_colour_comes_back_from_any_mode(
    change: Callable[[Pillow.Image], Pillow.Image], kind: str, tolerance: int, note: str | None
) -> None:
    pixels, done = read(stored(change(Pillow.fromarray(RGB)), kind))
    assert np.abs(pixels.astype(int) - RGB)[1:].mean() <= tolerance
    assert (note in done) if note else not done


def test_transparency_is_laid_on_white_or_kept() -> None:
    rgba = np.dstack([RGB, np.full((8, 12), 255, np.uint8)])
    rgba[4:, :, 3] = 0
    pixels, done = read(stored(Pillow.fromarray(rgba)))
    assert (pixels[4:] == 255).all()
    assert np.array_equal(pixels[:4], RGB[:4])
    assert done == {"with transparency, laid on white"}
    kept, done = read(stored(Pillow.fromarray(rgba)), channels=4)
    assert np.array_equal(kept[..., 3], rgba[..., 3])
    assert not done


def test_transparency_in_palettes_and_greys_is_seen() -> None:
    grey = Pillow.fromarray(np.full((8, 12), 100, np.uint8)).convert("LA")
    grey.putalpha(Pillow.fromarray(np.tile(np.array([0, 255], np.uint8), (8, 6))))
    pixels, done = read(stored(grey))
    assert set(pixels.reshape(-1).tolist()) == {100, 255}
    assert "with transparency, laid on white" in done
    palette = Pillow.fromarray(RGB).quantize(4)
    pixels, done = read(stored(palette, transparency=palette.getpixel((0, 4))))
    assert (pixels[4, 0] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(orientation: int) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    turned = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: np.transpose(a, (1, 0, 2)),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(np.transpose(a, (1, 0, 2)), 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](RGB)
    file = stored(Pillow.fromarray(np.ascontiguousarray(turned)), "PNG", exif=exif)
    found = survey(file)
    assert (found.height, found.width) == (8, 12)
    file.seek(0)
    pixels, done = read(file)
    assert np.array_equal(pixels, RGB)
    assert done == ({"turned upright by EXIF"} if orientation > 1 else set())


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_reduced_to_eight(kind: str) -> None:
    deep = np.linspace(0, 65535, 96).reshape(8, 12).astype(np.uint16)
    pixels, done = read(stored(Pillow.fromarray(deep), kind), channels=1)
    assert np.abs(pixels[..., 0].astype(float) - deep / 257).max() <= 1
    assert done == {"of 16 bits, reduced to 8"}


def test_floats_are_taken_as_they_can_be_meant() -> None:
    unit = np.linspace(0, 1, 96).reshape(8, 12).astype(np.float32)
    pixels, done = read(stored(Pillow.fromarray(unit), "TIFF"), channels=1)
    assert np.abs(pixels[..., 0] - unit * 255).max() <= 0.51
    assert "with values in 0..1, scaled to 8 bits" in done
    with pytest.raises(BadImage, match="wanted 0 to 1"):
        read(stored(Pillow.fromarray(unit - 5), "TIFF"), channels=1)
    with pytest.raises(BadImage, match="wanted 0 to 1"):
        read(stored(Pillow.fromarray(unit * np.float32("nan")), "TIFF"), channels=1)


def test_black_and_white_and_grey_become_what_is_wanted() -> None:
    bits = Pillow.fromarray(RGB).convert("1")
    pixels, _ = read(stored(bits), channels=1)
    assert set(pixels.reshape(-1).tolist()) <= {0, 255}
    grey = Pillow.fromarray(RGB).convert("L")
    pixels, done = read(stored(grey), channels=3)
    assert np.array_equal(pixels[..., 0], pixels[..., 2])
    assert done == {"greyscale, repeated over RGB"}
    assert read(stored(Pillow.fromarray(RGB)), channels=1)[1] == {"with colour, reduced to grey"}
    assert not read(stored(grey), channels=1)[1]
    assert not survey(stored(grey)).colour
    assert survey(stored(Pillow.fromarray(RGB))).colour


def test_of_several_frames_the_first_is_used() -> None:
    frames = [Pillow.fromarray(np.full((8, 12, 3), v, np.uint8)) for v in (10, 200)]
    pixels, done = read(stored(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert abs(int(pixels.mean()) - 10) < 3
    assert "with several frames, of which the first is used" in done


def test_another_shape_is_cropped_around_the_centre_and_resized() -> None:
    wide = np.zeros((16, 64, 3), np.uint8)
    wide[:, 24:40] = 255
    pixels, done = read(stored(Pillow.fromarray(wide)), height=8, width=8)
    assert pixels.min() > 200
    assert done == {"cropped around the centre", "resized"}
    _, done = read(stored(Pillow.fromarray(wide)), height=4, width=16)
    assert done == {"resized"}


def test_transparent_colours_do_not_bleed_when_resized() -> None:
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[:, :8] = (255, 0, 0, 255)
    rgba[:, 8:] = (0, 255, 0, 0)  # invisible green
    pixels, _ = decode(stored(Pillow.fromarray(rgba)), Image(4, 4, 4))
    visible = pixels[3] > 0
    assert pixels[1][visible].max() < 10


def test_files_that_are_no_images_are_refused() -> None:
    good = stored(Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))).getvalue()
    for data, message in ((b"", "not readable"), (b"hello" * 100, "not readable"), (good[: len(good) // 2], "cut short")):
        with pytest.raises(BadImage, match=message):
            decode(io.BytesIO(data), Image(3, 64, 64))


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    bomb = Pillow.new("1", (30_000, 30_000))
    with pytest.raises(BadImage, match="not readable|megapixels"):
        decode(stored(bomb, "PNG"), Image(1, 8, 8))
    with pytest.raises(BadImage, match="not readable|megapixels"):
        survey(stored(bomb, "PNG"))


def test_nothing_that_starts_another_program_is_read() -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    with pytest.raises(BadImage):
        survey(io.BytesIO(eps))
    assert not is_image_name("x.eps")
    assert is_image_name("x.JPG")
    assert not is_image_name("notes.txt")


def test_colour_profiles_do_not_disturb() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels, _ = read(stored(Pillow.fromarray(RGB), "PNG", icc_profile=profile))
    assert np.array_equal(pixels, RGB)
