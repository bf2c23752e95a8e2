"""Datasets from what a notebook has at hand: arrays, tensors, lists of files or of PIL images, PyTorch datasets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch.utils.data
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.progress import Progress
from anamorph.core.signal import Image
from anamorph.data.arrays import as_labels, as_pixels
from anamorph.data.decode_image import BadImage, decode_picture, fit_pixels, require_decodable, survey_picture
from anamorph.data.image_files import common_image, group_headers
from anamorph.data.images import InMemory
from anamorph.data.listing import in_files
from anamorph.data.read_listing import read_listing
from anamorph.data.read_options import ReadOptions
from anamorph.data.stored_dataset import StoredDataset

__all__ = ["Data", "name_of", "read_in_memory"]

Data: TypeAlias = (
    str | Path | NDArray[Any] | Tensor | Sequence[str | Path] | Sequence[Pillow.Image] | torch.utils.data.Dataset[Any]
)
"""All that `open_source` opens."""


def name_of(data: Data) -> str:
    """Return a name for messages: a path as it is, anything else by its kind."""
    if isinstance(data, Path):
        return str(data)
    if isinstance(data, torch.utils.data.Dataset):
        return type(data).__name__
    kinds = {np.ndarray: "array", Tensor: "tensor", list: "list", tuple: "list"}
    return next((name for kind, name in kinds.items() if isinstance(data, kind)), type(data).__name__)


def read_in_memory(data: Data, options: ReadOptions, progress: Progress) -> StoredDataset:
    """Read images that are in memory, or files that are listed.

    Args:
        data: an array or tensor of images [N, H, W], [N, H, W, C] or [N, C, H, W], of bytes or of floats in [0, 1] or [-1, 1];
            a list of image or sound files; a list of PIL images; or a map-style `torch.utils.data.Dataset` whose items are
            images, or pairs of an image and its class.
        options: size and channels of the images.
        progress: called with how many of how many examples have been read.

    Raises:
        UserError: if the data are of another kind, shape or range, or there are none.
    """
    name = name_of(data)
    if isinstance(data, (np.ndarray, Tensor)):
        return _read_array(name, _as_array(data), options)
    if isinstance(data, torch.utils.data.Dataset):
        return _read_torch(name, data, options, progress)
    if not isinstance(data, (list, tuple)):
        raise UserError(
            f"cannot open {name}: expected a name or path, an array or tensor of images, a list of files or of PIL images, "
            f"or a torch.utils.data.Dataset"
        )
    if not data:
        raise UserError("the list is empty: give it at least one file or image")
    if all(isinstance(item, (str, Path)) for item in data):
        return read_listing(in_files(data), options, progress)
    if all(isinstance(item, Pillow.Image) for item in data):
        return _read_pictures(data, options, progress)
    kinds = ", ".join(sorted({type(item).__name__ for item in data}))
    raise UserError(f"a list of {kinds} cannot be opened: expected only file paths or only PIL images (np.stack joins arrays)")


def _as_array(x: NDArray[Any] | Tensor) -> NDArray[Any]:
    if isinstance(x, np.ndarray):
        return x
    x = x.detach().cpu()
    return np.asarray((x.float() if x.dtype == torch.bfloat16 else x).numpy())


def _read_array(name: str, array: NDArray[Any], options: ReadOptions) -> StoredDataset:
    pixels, notes = as_pixels("", {name: array})
    own = Image(*pixels.shape[1:])
    image = options.image(own)
    require_decodable(image.channels)
    if image != own:
        pixels = np.stack([fit_pixels(one, image)[0] for one in pixels])
        notes = (*notes, f"brought from {own} to {image}")
    return StoredDataset.of(InMemory(np.array(pixels, order="C")), notes=notes)  # a copy: the caller may change the array


def _read_pictures(pictures: Sequence[Pillow.Image], options: ReadOptions, progress: Progress) -> StoredDataset:
    groups = group_headers((f"image {i}", survey_picture(picture)) for i, picture in enumerate(pictures))
    own, notes = common_image(groups, options)
    image = options.image(own)
    require_decodable(image.channels)
    pixels = np.empty((len(pictures), *image.shape), np.uint8)
    for i, picture in enumerate(pictures):
        try:
            pixels[i] = decode_picture(picture, image)[0]
        except BadImage as error:
            raise UserError(f"image {i} of the list cannot be used: {error}; repair it or leave it out") from error
        progress(i + 1, len(pictures))
    return StoredDataset.of(InMemory(pixels), notes=notes)


def _read_torch(name: str, data: torch.utils.data.Dataset[Any], options: ReadOptions, progress: Progress) -> StoredDataset:
    if not hasattr(data, "__len__") or isinstance(data, torch.utils.data.IterableDataset):
        raise UserError(f"{name} has no length and no items by index: give a map-style dataset, or a list of its images")
    items = [_item(name, i, data[i]) for i in range(len(data))]
    if not items:
        raise UserError(f"{name} is empty: give it at least one image")
    classes = [label for _, label in items if label is not None]
    if classes and len(classes) < len(items):
        raise UserError(f"{name} has a class for {len(classes)} of its {len(items)} images: give all of them one, or none")
    images = [image for image, _ in items]
    stored = _read_items(name, images, options, progress)
    if not classes:
        return stored
    names = getattr(data, "classes", None)
    label, values = as_labels("class", np.array(classes), np.array(names) if isinstance(names, (list, tuple)) else None)
    return StoredDataset(stored.stored, (label,), {"class": values}, stored.split, stored.notes)


def _item(name: str, index: int, item: Any) -> tuple[Any, int | None]:
    """Return the image and the class of an item, which is None where it has none."""
    if not isinstance(item, (tuple, list)):
        return item, None
    image, label = (*item, None)[:2] if item else (None, None)
    whole = isinstance(label, (int, np.integer)) or (
        isinstance(label, (Tensor, np.ndarray)) and label.ndim == 0 and _as_array(label).dtype.kind in "iu"
    )
    if len(item) > 2 or not (whole or label is None):
        raise UserError(f"item {index} of {name} is no image, nor an (image, class number) pair: give it a dataset of such")
    return image, None if label is None else int(label)


def _read_items(name: str, images: Sequence[Any], options: ReadOptions, progress: Progress) -> StoredDataset:
    if all(isinstance(image, Pillow.Image) for image in images):
        return _read_pictures(images, options, progress)
    if not all(isinstance(image, (Tensor, np.ndarray)) for image in images):
        kinds = ", ".join(sorted({type(image).__name__ for image in images}))
        raise UserError(f"the images of {name} are {kinds}: expected tensors, arrays or PIL images, all of one kind")
    arrays = [_as_array(image) for image in images]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise UserError(
            f"the images of {name} are of several shapes, such as {list(shapes[0])} and {list(shapes[1])}: resize them"
        )
    return _read_array(name, np.stack(arrays), options)
