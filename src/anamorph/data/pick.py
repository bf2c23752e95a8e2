"""Single image files as a batch of a model's own signal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.signal import Image
from anamorph.data.decode import BadImage, decode
from anamorph.data.images import to_signal

__all__ = ["read_images"]


def read_images(paths: Sequence[Path | str], image: Image) -> tuple[Tensor, list[str]]:
    """Images [n, C, H, W] in [-1, 1], fitted to a signal; and what was done to each to fit it.

    Raises: UserError naming the first file that is missing or no image.
    """
    arrays, notes = [], []
    for path in map(Path, paths):
        try:
            with path.open("rb") as file:
                pixels, done = decode(file, image)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        except BadImage as error:
            raise UserError(f"cannot read {path}: {error}") from error
        arrays.append(pixels)
        if done:
            notes.append(f"{path} was {', '.join(sorted(done))}")
    return to_signal(np.stack(arrays)), notes
