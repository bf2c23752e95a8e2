"""IDX files, gzipped or not: the format of MNIST and its descendants."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np

from anamorph.core.errors import UserError
from anamorph.data.arrays import Table, as_labels
from anamorph.data.bounded_read import read_at_most
from anamorph.data.images import Bytes

__all__ = ["find_idx", "read_idx", "read_idx_folder"]

LIMIT_BYTES = 16 << 30
NAME = re.compile(r"(?P<part>.+?)[-.](images|labels)[-.]idx[13]-ubyte(\.gz)?$")
ROLE = re.compile(r"((?P<set>.+)[-_.])?(?P<role>train|test|t10k)$")
"""Of a part's name: "train", or with its set's name before it, "emnist-letters-train"."""


def read_idx(path: Path) -> Bytes:
    """Return the unsigned bytes of an IDX file, in its own shape.

    Raises: UserError if it is no IDX file of unsigned bytes, is cut short, or holds more than its header says.
    """
    try:
        with path.open("rb") as file:
            return _read(cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if path.suffix == ".gz" else file, path)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged or cut short: {error}") from error


def _read(file: IO[bytes], path: Path) -> Bytes:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != 0x08 or not 1 <= magic[3] <= 4:
        raise UserError(f"{path} is no IDX file of unsigned bytes: it begins with {magic.hex() or 'nothing'}")
    header = file.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise UserError(f"{path} is cut short within its header")
    shape = struct.unpack(f">{magic[3]}I", header)
    claimed = math.prod(shape)
    if claimed > LIMIT_BYTES:
        raise UserError(f"{path} claims {list(shape)}, {claimed:,} bytes: that is over the limit of {LIMIT_BYTES:,}")
    data = read_at_most(file, claimed + 1)
    if len(data) != claimed:
        got = f"only {len(data):,}" if len(data) < claimed else "more"
        raise UserError(f"{path} claims {list(shape)}, {claimed:,} bytes, but holds {got}: fetch it again")
    return np.frombuffer(data, np.uint8).reshape(shape)


def find_idx(folder: Path) -> dict[str, Path]:
    """Return the IDX files of a folder by what they hold: "train images", "t10k labels", ..."""
    found = {}
    for path in sorted(folder.iterdir()):
        match = NAME.match(path.name)
        if match and path.is_file():
            found[f"{match['part']} {match[2]}"] = path
    return found


def read_idx_folder(folder: Path, files: dict[str, Path]) -> Table:
    """Return images and labels of a folder with train-images-idx3-ubyte, t10k-labels-idx1-ubyte and so on.

    Raises: UserError if images and labels do not fit together, or the folder holds more than one set.
    """
    parts = _train_first(folder, {name.removesuffix(" images") for name in files if name.endswith(" images")})
    images = [_three(read_idx(files[f"{part} images"]), files[f"{part} images"]) for part in parts]
    labels = [read_idx(files[f"{part} labels"]) for part in parts if f"{part} labels" in files]
    if len({array.shape[1:] for array in images}) > 1:
        raise UserError(f"the IDX images in {folder} differ in size: {', '.join(str(a.shape) for a in images)}")
    pixels = np.concatenate(images)[:, None] if len(images) > 1 else images[0][:, None]
    test = len(images[0]) if len(parts) > 1 and _role(parts[0]) == "train" else None
    if not labels:
        return Table(pixels, test=test)
    if [len(a) for a in images] != [a.size for a in labels]:
        raise UserError(
            f"the IDX files in {folder} hold {[len(a) for a in images]} images but {[a.size for a in labels]} labels"
        )
    label, values = as_labels("class", np.concatenate([a.reshape(-1) for a in labels]))
    return Table(pixels, (label,), {"class": values}, test)


def _train_first(folder: Path, parts: set[str]) -> list[str]:
    """Return the parts of one set, that to train on first."""
    if not parts:
        raise UserError(f"{folder} holds IDX labels but no images")
    sets = {match["set"] or "" for match in map(ROLE.match, parts) if match}
    if len(sets) > 1:
        held = ", ".join(sorted(parts))
        raise UserError(f"{folder} holds the IDX files of several sets ({held}): put those of one into a folder of their own")
    return sorted(parts, key=lambda part: (_role(part) != "train", part))


def _role(part: str) -> str:
    match = ROLE.match(part)
    return match["role"] if match else ""


def _three(array: Bytes, path: Path) -> Bytes:
    if array.ndim != 3 or not array.size:
        raise UserError(f"{path} holds {list(array.shape)}: wanted images [N, H, W]")
    return array
