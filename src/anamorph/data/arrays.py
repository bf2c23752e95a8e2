"""Images and labels in .npz and .npy files."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anamorph.core.errors import UserError
from anamorph.core.signal import Label
from anamorph.data.images import Bytes
from anamorph.data.order import Integers

__all__ = ["Table", "as_labels", "as_pixels", "load_arrays", "read_table"]

IMAGES = ("x_train", "images", "x", "data", "rgba", "rgb", "arr_0")
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Table:
    """Images [N, C, H, W] and their labels. test: where the held-out rows begin, if the file says so."""

    pixels: Bytes
    labels: tuple[Label, ...] = ()
    values: Mapping[str, Integers] = field(default_factory=dict)
    test: int | None = None
    notes: tuple[str, ...] = ()


def load_arrays(path: Path) -> Arrays:
    """The arrays of an .npz, or the one of an .npy, as "x".

    Raises: UserError if the file is damaged or holds Python objects (which are never unpickled).
    """
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return {"x": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        reason = "it holds Python objects, which are never unpickled" if "allow_pickle" in str(error) else str(error)
        raise UserError(f"cannot read {path}: {reason}; save plain numeric arrays with np.savez") from error


def read_table(path: Path) -> Table:
    """Images and labels: from x_train, y_train, x_test, y_test and class_names, or from an array of images and any of labels.

    Raises: UserError if there is no array of images, or one with values that cannot be pixels.
    """
    arrays = load_arrays(path)
    if "x_train" in arrays:
        return _split_table(path, arrays)
    named = [name for name in IMAGES if name in arrays and arrays[name].ndim in (3, 4)]
    shaped = [name for name, array in arrays.items() if array.ndim in (3, 4)]
    chosen = (named or shaped)[:1]
    if not chosen:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise UserError(
            f"{path} has no array of images ([N, H, W], [N, H, W, C] or [N, C, H, W]); it has {shapes or 'nothing'}"
        )
    pixels, notes = as_pixels(arrays[chosen[0]], f"{path}: {chosen[0]}")
    labels, values = {}, {}
    for name, array in arrays.items():
        if array.shape == (len(pixels),) and _labels(array):
            labels[name], values[name] = as_labels(name, array, arrays.get("class_names"))
    return Table(pixels, tuple(labels.values()), values, notes=notes)


def _labels(array: NDArray[Any]) -> bool:
    """Whether values, one per image, are classes: whole numbers, or text that repeats itself."""
    return array.dtype.kind in "iu" or (array.dtype.kind in "US" and len(np.unique(array)) < len(array))


def _split_table(path: Path, arrays: Arrays) -> Table:
    pixels, notes = as_pixels(arrays["x_train"], f"{path}: x_train")
    test = None
    if "x_test" in arrays:
        held, _ = as_pixels(arrays["x_test"], f"{path}: x_test")
        if held.shape[1:] != pixels.shape[1:]:
            raise UserError(f"{path}: x_train is {list(pixels.shape)} and x_test {list(held.shape)}: they must agree")
        test, pixels = len(pixels), np.concatenate([pixels, held])
    ys = [arrays[name].reshape(-1) for name in ("y_train", "y_test") if name in arrays]
    if not ys:
        return Table(pixels, test=test, notes=notes)
    y = np.concatenate(ys)
    if len(y) != len(pixels):
        raise UserError(f"{path}: {len(pixels)} images but {len(y)} labels in y_train and y_test")
    label, values = as_labels("class", y, arrays.get("class_names"))
    return Table(pixels, (label,), {"class": values}, test, notes)


def as_labels(name: str, values: NDArray[Any], class_names: NDArray[Any] | None = None) -> tuple[Label, Integers]:
    """A label from whole numbers or text, one per image; class_names give the classes their names."""
    classes, places = np.unique(values, return_inverse=True)
    numbers = classes.dtype.kind in "iu" and class_names is not None and len(class_names) > int(classes[-1])
    if numbers and class_names is not None and int(classes[0]) >= 0:
        return Label(name, tuple(str(c) for c in class_names)), values.astype(np.int64)
    return Label(name, tuple(str(c) for c in classes)), places.reshape(-1).astype(np.int64)


def as_pixels(array: NDArray[Any], where: str) -> tuple[Bytes, tuple[str, ...]]:
    """An array of images as bytes [N, C, H, W], and what was done to its values.

    Raises: UserError for a shape or values that cannot be images.
    """
    pixels = _channels_first(array, where)
    if not len(pixels):
        raise UserError(f"{where} is empty")
    if pixels.dtype == np.uint8:
        return pixels, ()
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255), ("black and white (bool)",)
    if pixels.dtype.kind not in "iuf":
        raise UserError(f"{where} has dtype {pixels.dtype}: wanted uint8, or floats in [0, 1] or [-1, 1]")
    return _scaled(pixels, where)


def _channels_first(array: NDArray[Any], where: str) -> NDArray[Any]:
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4:
        _, a, b, c = array.shape
        last, first = c in (1, 3, 4), a in (1, 3, 4)
        if last and (not first or min(a, b) >= min(b, c)):  # where both could be, the larger image is meant
            return array.transpose(0, 3, 1, 2)
        if first:
            return array
    raise UserError(f"{where} is {list(array.shape)}: wanted [N, H, W], [N, H, W, C] or [N, C, H, W] with 1, 3 or 4 channels")


def _scaled(pixels: NDArray[Any], where: str) -> tuple[Bytes, tuple[str, ...]]:
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite(low) or not np.isfinite(high):
        raise UserError(f"{where} holds NaN or infinite values: remove those images")
    if pixels.dtype.kind in "iu":
        if low < 0 or high > 255:
            raise UserError(f"{where} ({pixels.dtype}) runs from {low:g} to {high:g}: scale it to 0..255 and save it as uint8")
        return pixels.astype(np.uint8), ()
    ranges = {(0.0, 1.0): (255.0, 0.0), (-1.0, 1.0): (127.5, 127.5), (0.0, 255.0): (1.0, 0.0)}
    for (lowest, highest), (factor, offset) in ranges.items():
        if lowest <= low and high <= highest:
            note = f"floats in [{lowest:g}, {highest:g}], rounded to 8 bits"
            return np.round(pixels * factor + offset).astype(np.uint8), (note,)
    raise UserError(f"{where} runs from {low:g} to {high:g}: wanted floats in [0, 1], [-1, 1] or [0, 255]")
