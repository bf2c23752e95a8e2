"""Images and labels in .npz and .npy files."""

from __future__ import annotations

import math
import tokenize
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from anamorph.core.errors import UserError
from anamorph.core.signal import Label
from anamorph.data.bounded_read import BROKEN, read_at_most
from anamorph.data.images import Bytes
from anamorph.data.order import Integers

__all__ = ["Table", "as_labels", "as_pixels", "load_arrays", "read_table"]

IMAGES = ("x_train", "images", "x", "data", "rgba", "rgb", "arr_0")
KINDS = {"b": "bool", "i": "integer", "u": "integer", "f": "float"}
"""Of values that can be pixels, by numpy's letter."""
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Table:
    """Images [N, C, H, W] and their labels. test: where the held-out rows begin, if the file says so."""

    pixels: Bytes
    labels: tuple[Label, ...] = ()
    values: Mapping[str, Integers] = field(default_factory=dict)
    test: int | None = None
    notes: tuple[str, ...] = ()


def load_arrays(path: Path, only: Collection[str] | None = None) -> Arrays:
    """Return the arrays of an .npz, or only those of some names; or the one of an .npy, as "x".

    Raises: UserError if the file is damaged or holds Python objects (which are never unpickled).
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"PK"
            file.seek(0)
            return _members(file, only) if packed else {"x": _array(file, path.stat().st_size)}
    except BROKEN as error:
        raise UserError(f"cannot read {path}: {error}; save plain numeric arrays with np.savez") from error


def _members(file: IO[bytes], only: Collection[str] | None) -> Arrays:
    arrays: Arrays = {}
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            name = info.filename
            if not name.endswith(".npy"):
                raise ValueError(f"its member {name} is no array (.npy)")
            if only is not None and name.removesuffix(".npy") not in only:
                continue
            try:
                with archive.open(info) as member:
                    arrays[name.removesuffix(".npy")] = _array(member, info.file_size)
            except BROKEN as error:
                raise ValueError(f"its member {name}: {error}") from error
    return arrays


def _array(file: IO[bytes], size: int) -> NDArray[Any]:
    """Return the array of an .npy file of that many bytes; np.load would trust its header, and make room for all that it
    claims.

    Raises: ValueError if it is no such file, is cut short or holds Python objects.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"it is an .npy of version {version}: wanted 1.0 or 2.0")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, columns_first, dtype = read(file)
    except tokenize.TokenError as error:
        raise ValueError(f"its header is damaged: {error}") from error
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never unpickled")
    claimed = math.prod(shape) * dtype.itemsize
    data = read_at_most(file, claimed) if claimed <= size else b""
    if len(data) != claimed:
        raise ValueError(f"it claims {list(shape)} of {dtype}, {claimed:,} bytes, but is cut short")
    return np.ndarray(shape, dtype, data, order="F" if columns_first else "C")


def read_table(path: Path) -> Table:
    """Return images and labels: from x_train, y_train, x_test, y_test and class_names, or from an array of images and any of
    labels.

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
    pixels, notes = as_pixels(str(path), {chosen[0]: arrays[chosen[0]]})
    labels, values = {}, {}
    for name, array in arrays.items():
        if array.shape == (len(pixels),) and _labels(array):
            labels[name], values[name] = as_labels(name, array, arrays.get("class_names"))
    return Table(pixels, tuple(labels.values()), values, notes=notes)


def _labels(array: NDArray[Any]) -> bool:
    """Return whether values, one per image, are classes: whole numbers, or text that repeats itself."""
    return array.dtype.kind in "iu" or (array.dtype.kind in "US" and len(np.unique(array)) < len(array))


def _split_table(path: Path, arrays: Arrays) -> Table:
    pixels, notes = as_pixels(str(path), {name: arrays[name] for name in ("x_train", "x_test") if name in arrays})
    test = len(arrays["x_train"]) if "x_test" in arrays else None
    ys = [arrays[name].reshape(-1) for name in ("y_train", "y_test") if name in arrays]
    if not ys:
        return Table(pixels, test=test, notes=notes)
    y = np.concatenate(ys)
    if len(y) != len(pixels):
        raise UserError(f"{path}: {len(pixels)} images but {len(y)} labels in y_train and y_test")
    label, values = as_labels("class", y, arrays.get("class_names"))
    return Table(pixels, (label,), {"class": values}, test, notes)


def as_labels(name: str, values: NDArray[Any], class_names: NDArray[Any] | None = None) -> tuple[Label, Integers]:
    """Return a label from whole numbers or text, one per image; class_names give the classes their names."""
    classes, places = np.unique(values, return_inverse=True)
    numbers = classes.dtype.kind in "iu" and class_names is not None and len(class_names) > int(classes[-1])
    if numbers and class_names is not None and int(classes[0]) >= 0:
        return Label(name, tuple(str(c) for c in class_names)), values.astype(np.int64)
    return Label(name, tuple(str(c) for c in classes)), places.reshape(-1).astype(np.int64)


def as_pixels(source: str, arrays: Arrays) -> tuple[Bytes, tuple[str, ...]]:
    """Arrays of images, one behind the other, as bytes [N, C, H, W]; and what was done to their values.

    One value means the same in all of them: how they are scaled follows from the lowest and the highest of all together.
    Raises: UserError for shapes or values that cannot be images, or arrays that do not go together.
    """
    prefix = f"{source}: " if source else ""
    parts = [_channels_first(array, f"{prefix}{name}") for name, array in arrays.items()]
    where = f"{prefix}{' and '.join(arrays)}"
    if not all(map(len, parts)):
        raise UserError(f"{where}: {next(name for name in arrays if not len(arrays[name]))} is empty")
    if len({part.shape[1:] for part in parts}) > 1:
        raise UserError(f"{where} are {' and '.join(str(list(part.shape)) for part in parts)}: they must agree")
    types = " and ".join(sorted({str(part.dtype) for part in parts}))
    kinds = {KINDS.get(part.dtype.kind, "") for part in parts}
    if "" in kinds:
        raise UserError(f"{where}: dtype {types}: wanted uint8, or floats in [0, 1] or [-1, 1]")
    if len(kinds) > 1:
        raise UserError(f"{where}: dtype {types}, so that one value may mean two things: save both as one dtype")
    scaling = _scaling(parts, kinds.pop(), f"{where} ({types})")
    scaled = [scaling.bytes(part) for part in parts]
    return scaled[0] if len(scaled) == 1 else np.concatenate(scaled), scaling.notes


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


@dataclass(frozen=True)
class _Scaling:
    """From an array's values to bytes: factor * value + offset."""

    factor: float = 1
    offset: float = 0
    notes: tuple[str, ...] = ()

    def bytes(self, pixels: NDArray[Any]) -> Bytes:
        if pixels.dtype.kind == "f":
            return np.round(pixels * self.factor + self.offset).astype(np.uint8)
        whole = pixels.astype(np.uint8, copy=False)
        return whole if self.factor == 1 else whole * np.uint8(self.factor)


def _scaling(parts: Sequence[NDArray[Any]], kind: str, where: str) -> _Scaling:
    if kind == "bool":
        return _Scaling(255, notes=("black and white (bool)",))
    low, high = (float(each([each(part) for part in parts])) for each in (np.min, np.max))
    if not np.isfinite(low) or not np.isfinite(high):
        raise UserError(f"{where} holds NaN or infinite values: remove those images")
    if kind == "integer":
        if low < 0 or high > 255:
            raise UserError(f"{where}: values run from {low:g} to {high:g}: scale it to 0..255 and save it as uint8")
        return _Scaling(255, notes=("black and white (0 and 1, scaled to 0 and 255)",)) if high == 1 else _Scaling()
    ranges = {(0.0, 1.0): (255.0, 0.0), (-1.0, 1.0): (127.5, 127.5), (0.0, 255.0): (1.0, 0.0)}
    for (lowest, highest), (factor, offset) in ranges.items():
        if lowest <= low and high <= highest:
            return _Scaling(factor, offset, (f"floats in [{lowest:g}, {highest:g}], rounded to 8 bits",))
    raise UserError(f"{where}: values run from {low:g} to {high:g}: wanted floats in [0, 1], [-1, 1] or [0, 255]")
