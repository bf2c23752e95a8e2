"""Write images that are in memory to a file, from which a training can be resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anamorph.core.errors import UserError
from anamorph.core.files import atomic_write
from anamorph.data.arrays import load_arrays
from anamorph.data.dataset import Dataset
from anamorph.data.images import Images

__all__ = ["save_images"]


def save_images(dataset: Dataset, path: Path) -> None:
    """Write a dataset's images and labels, in its own order, as an .npz that `open_source` reads.

    A file with the same content is left as it is.

    Args:
        dataset: images, with all of their examples.
        path: of the file, which ends in .npz.

    Raises:
        UserError: if the dataset is of sounds, or the file has other content.
    """
    if not isinstance(dataset, Images):
        raise UserError("sounds in memory cannot be trained on: put their files into a folder, and give its path")
    plain = dataset.in_order()
    arrays: dict[str, NDArray[Any]] = {"images": plain.pixels.read(plain.rows).transpose(0, 2, 3, 1)}
    for label in plain.labels:
        classes = plain.values[label.name][plain.rows]
        arrays[label.name] = classes if len(plain.labels) == 1 else np.array(label.classes)[classes]
    if len(plain.labels) == 1:
        arrays["class_names"] = np.array(plain.labels[0].classes)
    if path.is_file():
        before = load_arrays(path)
        if before.keys() != arrays.keys() or any(not np.array_equal(before[name], arrays[name]) for name in arrays):
            raise UserError(f"{path} holds the other images that a run was started on: choose another folder")
        return
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
