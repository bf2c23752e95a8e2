"""From a name or a path to a source of images or of sounds."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from anamorph.core.errors import UserError, nearest
from anamorph.core.files import read_json, write_json
from anamorph.core.progress import Progress, no_progress
from anamorph.core.signal import Audio, Image, Label
from anamorph.data.arrays import Table, read_table
from anamorph.data.bounded_read import BadFile
from anamorph.data.dataset import Dataset
from anamorph.data.decode_image import Survey, decode, fit, require_decodable, survey
from anamorph.data.decode_sound import is_sound_name
from anamorph.data.file_name_labels import label_by_file_names, pattern_fields
from anamorph.data.idx import find_idx, read_idx, read_idx_folder
from anamorph.data.images import Bytes, Images, InMemory
from anamorph.data.layered_images import LayeredImages, read_layered_images
from anamorph.data.listing import Listing, in_folder, in_zip
from anamorph.data.order import held_out
from anamorph.data.public_datasets import PUBLIC_DATASETS, locate
from anamorph.data.read_options import ReadOptions
from anamorph.data.shapes import Shapes
from anamorph.data.shapes import labels as shape_labels
from anamorph.data.shards import Item, Shards, cache_folder, cached
from anamorph.data.sound_files import read_fsdd, read_sound_files
from anamorph.data.sounds import Sounds
from anamorph.data.stored_dataset import StoredDataset, conversion_notes

__all__ = ["BUILT_IN", "SPLITS", "ReadOptions", "absolute", "open_source", "split_of"]

SPLITS = ("train", "test", "all")
BUILT_IN = {
    "digits": "1,797 handwritten digits, 8x8 grey (scikit-learn's; CC BY 4.0, Alpaydin and Kaynak)",
    "shapes": "311,040 drawn figures with exact factors of variation, 32x32 RGB or any size",
}


def split_of(spec: str) -> tuple[str, str | None]:
    """A source's name or path, and the split that was written behind it, if any."""
    head, colon, tail = spec.rpartition(":")
    return (head, tail) if colon and tail in SPLITS else (spec, None)


def absolute(spec: str) -> str:
    """A source that is a path, from the root; a name as it is."""
    name, _ = split_of(spec)
    is_path = name not in BUILT_IN and name not in PUBLIC_DATASETS and (Path(name).exists() or Path(spec).exists())
    return str(Path(spec).absolute()) if is_path else spec


def open_source(
    spec: str,
    options: ReadOptions | None = None,
    *,
    split: str = "train",
    seed: int | None = 0,
    mirror: bool = False,
    progress: Progress = no_progress,
) -> Dataset:
    """The images or sounds of a built-in or public set, a folder, a zip, an .npz or .npy, or IDX files.

    spec: a name or a path; a folder that is called as a set is, here, is ./mnist. `:train`, `:test` or `:all` behind it
    overrides `split`. Sets without a split of their own hold a fixed tenth out for testing. seed: of the order; None leaves the
    examples in their own order.
    Raises: UserError, with the remedy, for anything that is not such a source.
    """
    name, asked = split_of(spec)
    whole = _whole(name, options or ReadOptions(), progress)
    if options and not set(pattern_fields(options.name_pattern)) <= {label.name for label in whole.labels}:
        raise UserError(f"{name} has no files whose names could be read: leave out --name-pattern")
    rows = whole.split[asked or split]
    stored = whole.stored
    sounds = isinstance(stored, Shards) and isinstance(stored.signal, Audio)
    if not len(rows):
        noun = "sounds" if sounds else "images"
        raise UserError(f"{name} has no {noun} to {asked or split} on: it holds {len(stored)} in all; use {name}:all")
    if not isinstance(stored, Shards) or not sounds:
        return Images(name, stored, rows, whole.labels, whole.values, seed, mirror, whole.notes)
    if mirror:
        raise UserError(f"{name} holds sounds, and only images are flipped: leave out --mirror")
    return Sounds(name, stored, rows, whole.labels, whole.values, seed, whole.notes)


def _whole(name: str, wanted: ReadOptions, progress: Progress) -> StoredDataset:
    if name in BUILT_IN:
        return _digits(wanted) if name == "digits" else _shapes(wanted)
    if name in PUBLIC_DATASETS:
        return _open_public(name, wanted, progress)
    path = Path(name).expanduser()
    if not path.exists():
        known = [*BUILT_IN, *PUBLIC_DATASETS]
        hint = "" if os.sep in name else f"; as a name it is unknown: {nearest(name, known)}"
        raise UserError(f"no such file or folder: {name}{hint}")
    return _path(path, wanted, progress)


def _path(path: Path, wanted: ReadOptions, progress: Progress) -> StoredDataset:
    if path.is_file():
        return _file(path, wanted, progress)
    arrays = sorted([*path.glob("*.npz"), *path.glob("*.npy")])
    if len(arrays) > 1:
        raise UserError(f"several arrays in {path} ({', '.join(a.name for a in arrays[:5])}): name one of them")
    if arrays:
        return _note(_table(read_table(arrays[0]), _stat_key(arrays), wanted, progress), f"read from {arrays[0].name}")
    idx = find_idx(path)
    if idx:
        table = read_idx_folder(path, idx)
        return _note(_table(table, _stat_key(idx.values()), wanted, progress), "read from its IDX files")
    return _listed(in_folder(path), wanted, progress)


def _note(whole: StoredDataset, note: str) -> StoredDataset:
    return StoredDataset(whole.stored, whole.labels, whole.values, whole.split, (note, *whole.notes))


def _file(path: Path, wanted: ReadOptions, progress: Progress) -> StoredDataset:
    lower = path.name.lower()
    if lower.endswith((".npz", ".npy")):
        return _table(read_table(path), _stat_key([path]), wanted, progress)
    if lower.endswith(".zip"):
        return _listed(in_zip(path), wanted, progress)
    if "idx" in lower or "ubyte" in lower:
        array = read_idx(path)
        if array.ndim != 3:
            raise UserError(f"{path} holds {list(array.shape)}: wanted images [N, H, W]; name its folder to read labels too")
        return _table(Table(array[:, None]), _stat_key([path]), wanted, progress)
    if is_sound_name(path.name):
        raise UserError(f"{path} is one sound: put it into a folder, and name that")
    raise UserError(f"{path} is no source of images or sounds: wanted a folder, .zip, .npz, .npy or IDX file")


def _stat_key(paths: Iterable[Path]) -> str:
    facts = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(paths)]
    return hashlib.blake2b(repr(facts).encode(), digest_size=16).hexdigest()


def _table(table: Table, key: str, wanted: ReadOptions, progress: Progress) -> StoredDataset:
    own = Image(*table.pixels.shape[1:])
    image = wanted.image(own)
    require_decodable(image.channels)

    def items() -> Iterator[Item]:
        for array in table.pixels:
            if image == own:
                yield Item([array])
            else:
                picture = Pillow.fromarray(array.transpose(1, 2, 0) if own.channels > 1 else array[0])
                pixels, done = fit(picture, image)
                yield Item([pixels], frozenset(done))

    shards = cached(f"array/{key}", image, items, [f"image {i}" for i in range(len(table.pixels))], progress)
    test = np.arange(table.test, len(shards)) if table.test is not None else None
    notes = [*table.notes, *conversion_notes(shards, "image")]
    return StoredDataset.of(shards, table.labels, table.values, test, notes)


def _listed(listing: Listing, wanted: ReadOptions, progress: Progress) -> StoredDataset:
    listing = label_by_file_names(listing, wanted.name_pattern) if wanted.name_pattern else listing
    if listing.kind == "sounds":
        return read_sound_files(listing, wanted, progress)
    own, notes = _own_image(listing, wanted)
    image = wanted.image(own)
    require_decodable(image.channels)
    shards = cached(f"files/{listing.key}", image, partial(_decoded, listing, image), listing.names, progress)
    values = {name: value[shards.kept] for name, value in listing.values.items()}
    place = np.full(len(listing.names), -1, np.int64)
    place[shards.kept] = np.arange(len(shards))
    test = place[listing.parts["test"]] if listing.parts else None
    notes += conversion_notes(shards, "image")
    return StoredDataset.of(shards, listing.labels, values, test, notes)


def _decoded(listing: Listing, image: Image) -> Iterator[Item]:
    """The images of a listing, in its order, decoded by a few threads a little ahead of the reader."""

    def one(name: str) -> Item:
        try:
            with listing.open(name) as file:
                pixels, done = decode(file, image)
            return Item([pixels], frozenset(done))
        except (BadFile, OSError) as error:
            return Item(None, problem=str(error))

    ahead = 64
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        for start in range(0, len(listing.names), ahead):
            yield from threads.map(one, listing.names[start : start + ahead])


@dataclass(frozen=True)
class _HeaderGroup:
    """What the headers of some files say in the same words: how many these are, and the first."""

    height: int
    width: int
    colour: bool
    count: int
    first: str


def _own_image(listing: Listing, wanted: ReadOptions) -> tuple[Image, list[str]]:
    """The image that a listing's files have in common: their own size where all agree, else a square that all can fill.

    Raises: UserError if sizes differ, and some are smaller than what is wanted.
    """
    facts = _surveyed(listing)
    sizes = {(s.height, s.width) for s in facts}
    channels = 3 if any(s.colour for s in facts) else 1
    height, width = min(h for h, _ in sizes), min(w for _, w in sizes)
    if len(sizes) > 1:
        _check_small(facts, wanted)
    if len(sizes) == 1 or wanted.size:
        return Image(channels, height, width), []
    side = min(2 ** int(math.log2(min(height, width))), 64)
    note = (
        f"of {len(sizes)} sizes from {height}x{width} up: cut square and reduced to {side}x{side}; choose another with --size"
    )
    return Image(channels, side, side), [note]


def _check_small(facts: list[_HeaderGroup], wanted: ReadOptions) -> None:
    """Raises: UserError naming the smallest file, if any is smaller than what is wanted: it may be there by mistake."""
    height, width = wanted.size or (1, 1)
    small = [s for s in facts if s.height < height or s.width < width]
    if not small or wanted.upscale:
        return
    least = min(small, key=lambda s: (s.height * s.width, s.first))
    raise UserError(
        f"{sum(s.count for s in small)} of {sum(s.count for s in facts)} images are smaller than the {height}x{width} asked "
        f"for, down to {least.first} with {least.height}x{least.width}: remove them, choose a smaller --size, or enlarge them "
        f"with --upscale"
    )


def _surveyed(listing: Listing) -> list[_HeaderGroup]:
    """What the headers of a listing's files say; kept, since a large folder takes a while to look through."""
    path = cache_folder() / "surveys" / f"{listing.key}.json"
    if path.is_file():
        try:
            return [_HeaderGroup(*fact) for fact in read_json(path)]
        except (UserError, TypeError):
            path.unlink(missing_ok=True)

    def one(name: str) -> Survey | str:
        try:
            with listing.open(name) as file:
                return survey(file)
        except (BadFile, OSError) as error:
            return str(error)

    counts: Counter[Survey] = Counter()
    first: dict[Survey, str] = {}
    problem = ""  # others are told when they are decoded
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        for name, fact in zip(listing.names, threads.map(one, listing.names), strict=True):
            if isinstance(fact, Survey):
                counts[fact] += 1
                first.setdefault(fact, name)
            else:
                problem = problem or f"{name}: {fact}"
    if not first:
        raise UserError(f"none of {len(listing.names)} images can be read; {problem}")
    facts = [_HeaderGroup(s.height, s.width, s.colour, counts[s], name) for s, name in first.items()]
    write_json(path, [astuple(fact) for fact in facts])
    return facts


def _digits(wanted: ReadOptions) -> StoredDataset:
    from sklearn.datasets import load_digits

    found = load_digits()
    array: Bytes = np.round(found.images * (255 / 16)).astype(np.uint8)[:, None]
    image = wanted.image(Image(1, 8, 8))
    if image != Image(1, 8, 8):
        array = np.stack([fit(Pillow.fromarray(a[0]), image)[0] for a in array])
    label = Label("class", tuple(str(i) for i in range(10)))
    return StoredDataset.of(InMemory(array), (label,), {"class": found.target.astype(np.int64)})


def _shapes(wanted: ReadOptions) -> StoredDataset:
    image = ReadOptions(wanted.size, wanted.channels, upscale=True).image(Image(3, 32, 32))
    require_decodable(image.channels)
    shapes, labels = Shapes(image), shape_labels()
    every = np.unravel_index(np.arange(len(shapes)), tuple(len(label.classes) for label in labels))
    return StoredDataset.of(shapes, labels, {label.name: v.astype(np.int64) for label, v in zip(labels, every, strict=True)})


def _open_public(name: str, wanted: ReadOptions, progress: Progress) -> StoredDataset:
    if name == "fsdd":
        return read_fsdd(wanted, progress)
    folder = locate(name)
    files = [folder / file for file in PUBLIC_DATASETS[name].files]
    if name.startswith("avatars-"):
        layers, side = read_layered_images(files[0])
        parts = LayeredImages(layers, side, wanted.image(Image(3, side, side)))
        values = {label.name: column for label, column in zip(parts.labels, parts.choices.T, strict=True)}
        return StoredDataset.of(parts, parts.labels, values)
    if name == "emoji":
        return _emoji(files[0], wanted, progress)
    if len(files) == 1:
        return _table(read_table(files[0]), _stat_key(files), wanted, progress)
    return _table(read_idx_folder(folder, find_idx(folder)), _stat_key(files), wanted, progress)


def _emoji(path: Path, wanted: ReadOptions, progress: Progress) -> StoredDataset:
    """The designs, not the images, are held out: the five skin tones of one design look alike."""
    from anamorph.data.arrays import load_arrays

    table = read_table(path)
    tones = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
    codes = [str(code).lower().replace("-", "_").split("_") for code in load_arrays(path)["codepoints"]]
    designs = ["_".join(c for c in code if c.removeprefix("u") not in tones) for code in codes]
    _, design = np.unique(designs, return_inverse=True)
    test = np.flatnonzero(held_out(int(design.max()) + 1)[design])
    whole = _table(Table(table.pixels), _stat_key([path]), wanted, progress)
    return StoredDataset.of(whole.stored, test=test, notes=whole.notes)
