"""Open datasets of images or of sounds, by name, by path or from memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from anamorph.core.errors import UserError, nearest
from anamorph.core.progress import Progress, no_progress
from anamorph.core.signal import Audio, Image, Label
from anamorph.data.arrays import Table, load_arrays, read_table
from anamorph.data.dataset import Dataset
from anamorph.data.decode_image import fit_pixels, require_decodable
from anamorph.data.decode_sound import is_sound_name
from anamorph.data.file_name_labels import pattern_fields
from anamorph.data.idx import find_idx, read_idx, read_idx_folder
from anamorph.data.images import Bytes, Images, InMemory
from anamorph.data.in_memory import Data, name_of, read_in_memory
from anamorph.data.layered_images import LayeredImages, read_layered_images
from anamorph.data.listing import in_folder, in_zip
from anamorph.data.order import held_out
from anamorph.data.public_datasets import PUBLIC_DATASETS, locate
from anamorph.data.read_listing import read_listing
from anamorph.data.read_options import ReadOptions
from anamorph.data.shapes import Shapes
from anamorph.data.shapes import labels as shape_labels
from anamorph.data.shards import Item, Shards, cached
from anamorph.data.sound_files import read_fsdd
from anamorph.data.sounds import Sounds
from anamorph.data.stored_dataset import StoredDataset, conversion_notes

__all__ = ["BUILT_IN", "SPLITS", "ReadOptions", "absolute", "open_source", "split_of"]

SPLITS = ("train", "test", "all")
BUILT_IN = {
    "digits": "1,797 handwritten digits, 8x8 grey (scikit-learn's; CC BY 4.0, Alpaydin and Kaynak)",
    "shapes": "311,040 drawn figures with exact factors of variation, 32x32 RGB or any size",
}


def split_of(spec: str) -> tuple[str, str | None]:
    """Split a source as it is written into its name or path, and the split behind it, if any."""
    head, colon, tail = spec.rpartition(":")
    return (head, tail) if colon and tail in SPLITS else (spec, None)


def absolute(spec: str) -> str:
    """Return a source that is a path as an absolute path, and a name as it is."""
    name, _ = split_of(spec)
    is_path = name not in BUILT_IN and name not in PUBLIC_DATASETS and (Path(name).exists() or Path(spec).exists())
    return str(Path(spec).absolute()) if is_path else spec


def open_source(
    source: Data,
    options: ReadOptions | None = None,
    *,
    split: str = "train",
    seed: int | None = 0,
    mirror: bool = False,
    progress: Progress = no_progress,
) -> Dataset:
    """Open a dataset of images or sounds, wherever it is.

    Args:
        source: the name of a built-in or public dataset, or the path of a folder, a zip, an .npz or .npy, or IDX files;
            `:train`, `:test` or `:all` behind it overrides `split`. A folder that has the name of a dataset is written ./mnist.
            Or data in memory: an array or tensor of images, a list of files, a list of PIL images, or a map-style
            `torch.utils.data.Dataset`; see `anamorph.data.in_memory.read_in_memory`.
        options: size, channels, rate and window at which examples are read; by default, their own.
        split: "train", "test" or "all". A fixed tenth of datasets without a split of their own is held out as "test".
        seed: of the order; None leaves the examples in their own order.
        mirror: flip images left to right at half of the positions.
        progress: called with how many of how many examples have been decoded.

    Raises:
        UserError: with the remedy, if there is no such dataset or its content cannot be read.
    """
    options = options or ReadOptions()
    if isinstance(source, str):
        name, chosen_split = split_of(source)
        dataset = _read_named(name, options, progress)
    else:
        name, chosen_split = name_of(source), None
        if isinstance(source, Path):
            dataset = _read_path(source.expanduser(), options, progress)
        else:
            dataset = read_in_memory(source, options, progress)
    if not set(pattern_fields(options.name_pattern)) <= {label.name for label in dataset.labels}:
        raise UserError(f"{name} has no files whose names could be read: leave out name_pattern (--name-pattern)")
    return _dataset(name, dataset, chosen_split or split, seed, mirror)


def _dataset(name: str, dataset: StoredDataset, split: str, seed: int | None, mirror: bool) -> Dataset:
    """Return one split of a stored dataset."""
    if split not in SPLITS:
        raise UserError(f"no split {split!r}: {nearest(split, SPLITS)}")
    rows, stored = dataset.split[split], dataset.stored
    sounds = isinstance(stored, Shards) and isinstance(stored.signal, Audio)
    if not len(rows):
        noun = "sounds" if sounds else "images"
        raise UserError(f"{name} has no {noun} to {split} on: it holds {len(stored)} in all; use {name}:all (split='all')")
    if not isinstance(stored, Shards) or not sounds:
        return Images(name, stored, rows, dataset.labels, dataset.values, seed, mirror, dataset.notes)
    if mirror:
        raise UserError(f"{name} holds sounds, and only images are flipped: leave out mirror (--mirror)")
    return Sounds(name, stored, rows, dataset.labels, dataset.values, seed, dataset.notes)


def _read_named(name: str, options: ReadOptions, progress: Progress) -> StoredDataset:
    if name in BUILT_IN:
        return _digits(options) if name == "digits" else _shapes(options)
    if name in PUBLIC_DATASETS:
        return _read_public(name, options, progress)
    return _read_path(Path(name).expanduser(), options, progress, name)


def _read_path(path: Path, options: ReadOptions, progress: Progress, name: str = "") -> StoredDataset:
    """Read a file or folder. name: as the user wrote it, if it may be a misspelled name of a dataset."""
    if not path.exists():
        known = [*BUILT_IN, *PUBLIC_DATASETS]
        hint = "" if not name or os.sep in name else f"; as a name it is unknown: {nearest(name, known)}"
        raise UserError(f"no such file or folder: {name or path}{hint}")
    if path.is_file():
        return _read_file(path, options, progress)
    arrays = sorted([*path.glob("*.npz"), *path.glob("*.npy")])
    if len(arrays) > 1:
        raise UserError(f"several arrays in {path} ({', '.join(a.name for a in arrays[:5])}): name one of them")
    if arrays:
        return _with_note(_table(read_table(arrays[0]), _stat_key(arrays), options, progress), f"read from {arrays[0].name}")
    idx = find_idx(path)
    if idx:
        table = read_idx_folder(path, idx)
        return _with_note(_table(table, _stat_key(idx.values()), options, progress), "read from its IDX files")
    return read_listing(in_folder(path), options, progress)


def _with_note(dataset: StoredDataset, note: str) -> StoredDataset:
    return replace(dataset, notes=(note, *dataset.notes))


def _read_file(path: Path, options: ReadOptions, progress: Progress) -> StoredDataset:
    lower = path.name.lower()
    if lower.endswith((".npz", ".npy")):
        return _table(read_table(path), _stat_key([path]), options, progress)
    if lower.endswith(".zip"):
        return read_listing(in_zip(path), options, progress)
    if "idx" in lower or "ubyte" in lower:
        array = read_idx(path)
        if array.ndim != 3:
            raise UserError(f"{path} holds {list(array.shape)}: expected images [N, H, W]; name its folder to read labels too")
        return _table(Table(array[:, None]), _stat_key([path]), options, progress)
    if is_sound_name(path.name):
        raise UserError(f"{path} is one sound: put it into a folder, and name that")
    raise UserError(f"{path} is no dataset of images or sounds: expected a folder, .zip, .npz, .npy or IDX file")


def _stat_key(paths: Iterable[Path]) -> str:
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(paths)]
    return hashlib.blake2b(repr(stats).encode(), digest_size=16).hexdigest()


def _table(table: Table, key: str, options: ReadOptions, progress: Progress) -> StoredDataset:
    own = Image(*table.pixels.shape[1:])
    image = options.image(own)
    require_decodable(image.channels)

    def items() -> Iterator[Item]:
        for array in table.pixels:
            pixels, conversions = (array, set()) if image == own else fit_pixels(array, image)
            yield Item([pixels], frozenset(conversions))

    shards = cached(f"array/{key}", image, items, [f"image {i}" for i in range(len(table.pixels))], progress)
    test = np.arange(table.test, len(shards)) if table.test is not None else None
    notes = [*table.notes, *conversion_notes(shards, "image")]
    return StoredDataset.of(shards, table.labels, table.values, test, notes)


def _digits(options: ReadOptions) -> StoredDataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    array: Bytes = np.round(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    image = options.image(Image(1, 8, 8))
    if image != Image(1, 8, 8):
        array = np.stack([fit_pixels(pixels, image)[0] for pixels in array])
    label = Label("class", tuple(str(i) for i in range(10)))
    return StoredDataset.of(InMemory(array), (label,), {"class": digits.target.astype(np.int64)})


def _shapes(options: ReadOptions) -> StoredDataset:
    image = ReadOptions(options.size, options.channels, upscale=True).image(Image(3, 32, 32))
    require_decodable(image.channels)
    shapes, labels = Shapes(image), shape_labels()
    indices = np.unravel_index(np.arange(len(shapes)), tuple(len(label.classes) for label in labels))
    return StoredDataset.of(shapes, labels, {label.name: v.astype(np.int64) for label, v in zip(labels, indices, strict=True)})


def _read_public(name: str, options: ReadOptions, progress: Progress) -> StoredDataset:
    if name == "fsdd":
        return read_fsdd(options, progress)
    folder = locate(name)
    files = [folder / file for file in PUBLIC_DATASETS[name].files]
    if name.startswith("avatars-"):
        layers, side = read_layered_images(files[0])
        images = LayeredImages(layers, side, options.image(Image(3, side, side)))
        values = {label.name: column for label, column in zip(images.labels, images.choices.T, strict=True)}
        return StoredDataset.of(images, images.labels, values)
    if name == "emoji":
        return _emoji(files[0], options, progress)
    if len(files) == 1:
        return _table(read_table(files[0]), _stat_key(files), options, progress)
    return _table(read_idx_folder(folder, find_idx(folder)), _stat_key(files), options, progress)


def _emoji(path: Path, options: ReadOptions, progress: Progress) -> StoredDataset:
    """Read the emoji. Designs, not images, are held out: the five skin tones of one design look alike."""
    table = read_table(path)
    tones = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
    codes = [str(code).lower().replace("-", "_").split("_") for code in load_arrays(path)["codepoints"]]
    designs = ["_".join(c for c in code if c.removeprefix("u") not in tones) for code in codes]
    _, design = np.unique(designs, return_inverse=True)
    test = np.flatnonzero(held_out(int(design.max()) + 1)[design])
    dataset = _table(Table(table.pixels), _stat_key([path]), options, progress)
    return StoredDataset.of(dataset.stored, test=test, notes=dataset.notes)
