"""Images from the files of a folder or a zip: surveyed, brought to one size and decoded into the cache."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from functools import partial

import numpy as np

from anamorph.core.errors import UserError
from anamorph.core.files import read_json, write_json
from anamorph.core.progress import Progress
from anamorph.core.signal import Image
from anamorph.data.bounded_read import BadFile
from anamorph.data.decode_image import Survey, decode, require_decodable, survey
from anamorph.data.listing import Listing
from anamorph.data.read_options import ReadOptions
from anamorph.data.shards import Item, cache_folder, cached
from anamorph.data.stored_dataset import StoredDataset, conversion_notes

__all__ = ["HeaderGroup", "common_image", "group_headers", "read_image_files"]


def read_image_files(listing: Listing, options: ReadOptions, progress: Progress) -> StoredDataset:
    """Decode the images of a listing, all to one size, into the cache.

    Raises:
        UserError: if too many of them cannot be read, or they cannot be brought to the size of the options.
    """
    own, notes = common_image(_surveyed(listing), options)
    image = options.image(own)
    require_decodable(image.channels)
    shards = cached(f"files/{listing.key}", image, partial(_decoded, listing, image), listing.names, progress)
    values = {name: value[shards.source_rows] for name, value in listing.values.items()}
    stored_row = np.full(len(listing.names), -1, np.int64)
    stored_row[shards.source_rows] = np.arange(len(shards))
    test = stored_row[listing.splits["test"]] if listing.splits else None
    notes += conversion_notes(shards, "image")
    return StoredDataset.of(shards, listing.labels, values, test, notes)


def _decoded(listing: Listing, image: Image) -> Iterator[Item]:
    """Yield the images of a listing, in its order, decoded by a few threads a little ahead of the reader."""

    def one(name: str) -> Item:
        try:
            with listing.open(name) as file:
                pixels, conversions = decode(file, image)
            return Item([pixels], frozenset(conversions))
        except (BadFile, OSError) as error:
            return Item(None, problem=str(error))

    ahead = 64
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        for start in range(0, len(listing.names), ahead):
            yield from threads.map(one, listing.names[start : start + ahead])


@dataclass(frozen=True)
class HeaderGroup:
    """Images of one size and kind of colour: how many there are, and the name of the first."""

    height: int
    width: int
    colour: bool
    count: int
    first: str


def group_headers(headers: Iterable[tuple[str, Survey]]) -> list[HeaderGroup]:
    """Group named images by size and kind of colour."""
    counts: Counter[Survey] = Counter()
    first: dict[Survey, str] = {}
    for name, header in headers:
        counts[header] += 1
        first.setdefault(header, name)
    return [HeaderGroup(s.height, s.width, s.colour, counts[s], name) for s, name in first.items()]


def common_image(groups: Sequence[HeaderGroup], options: ReadOptions) -> tuple[Image, list[str]]:
    """Return the size that images have in common, and notes for the user.

    This is their own size where all agree, else a square that every image can fill without being enlarged.

    Raises:
        UserError: if sizes differ, and some images are smaller than the size of the options.
    """
    sizes = {(group.height, group.width) for group in groups}
    channels = 3 if any(group.colour for group in groups) else 1
    height, width = min(h for h, _ in sizes), min(w for _, w in sizes)
    if len(sizes) > 1:
        _check_small(groups, options)
    if len(sizes) == 1 or options.size:
        return Image(channels, height, width), []
    side = min(2 ** int(math.log2(min(height, width))), 64)
    note = (
        f"of {len(sizes)} sizes from {height}x{width} up: cut square and reduced to {side}x{side}; choose another with --size"
    )
    return Image(channels, side, side), [note]


def _check_small(groups: Sequence[HeaderGroup], options: ReadOptions) -> None:
    """Raise a UserError naming the smallest image, if any is smaller than the size of the options."""
    height, width = options.size or (1, 1)
    small = [group for group in groups if group.height < height or group.width < width]
    if not small or options.upscale:
        return
    least = min(small, key=lambda group: (group.height * group.width, group.first))
    raise UserError(
        f"{sum(group.count for group in small)} of {sum(group.count for group in groups)} images are smaller than the "
        f"{height}x{width} asked for, down to {least.first} with {least.height}x{least.width}: remove them, choose a smaller "
        f"--size, or enlarge them with --upscale"
    )


def _surveyed(listing: Listing) -> list[HeaderGroup]:
    """Group the headers of a listing's files. The result is cached: a large folder takes a while to read."""
    path = cache_folder() / "surveys" / f"{listing.key}.json"
    if path.is_file():
        try:
            return [HeaderGroup(*values) for values in read_json(path)]
        except (UserError, TypeError):
            path.unlink(missing_ok=True)

    def one(name: str) -> Survey | str:
        try:
            with listing.open(name) as file:
                return survey(file)
        except (BadFile, OSError) as error:
            return str(error)

    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        results = list(zip(listing.names, threads.map(one, listing.names), strict=True))
    groups = group_headers((name, result) for name, result in results if isinstance(result, Survey))
    if not groups:  # files that cannot be read are reported when the others are decoded
        name, problem = results[0]
        raise UserError(f"none of {len(listing.names)} images can be read; {name}: {problem}")
    write_json(path, [astuple(group) for group in groups])
    return groups
