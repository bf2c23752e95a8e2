"""Read the files of a listing, whether they are images or sounds."""

from __future__ import annotations

from anamorph.core.progress import Progress
from anamorph.data.file_name_labels import label_by_file_names
from anamorph.data.image_files import read_image_files
from anamorph.data.listing import Listing
from anamorph.data.read_options import ReadOptions
from anamorph.data.sound_files import read_sound_files
from anamorph.data.stored_dataset import StoredDataset

__all__ = ["read_listing"]


def read_listing(listing: Listing, options: ReadOptions, progress: Progress) -> StoredDataset:
    """Decode the files of a listing, with labels from their names where the options have a pattern."""
    listing = label_by_file_names(listing, options.name_pattern) if options.name_pattern else listing
    read = read_sound_files if listing.kind == "sounds" else read_image_files
    return read(listing, options, progress)
