"""Sounds from the files of a folder or a zip, and the spoken digits: resampled, mixed, and cut into windows of one length."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from anamorph.core.errors import UserError
from anamorph.core.files import read_json, write_json
from anamorph.core.progress import Progress
from anamorph.core.signal import Audio, Label
from anamorph.data.arrays import load_arrays
from anamorph.data.bounded_read import BadFile
from anamorph.data.decode_sound import PcmSamples, SoundHeader, decode_sound, require_soundfile, survey_sound
from anamorph.data.listing import Listing
from anamorph.data.order import held_out
from anamorph.data.public_datasets import locate
from anamorph.data.read_options import ReadOptions
from anamorph.data.shards import Item, cache_folder, cached
from anamorph.data.stored_dataset import StoredDataset, conversion_notes

__all__ = ["cut_windows", "read_fsdd", "read_sound_files"]

PADDED = "shorter than a window, and padded with silence"


def cut_windows(samples: PcmSamples, window: int, hop: int | None) -> tuple[list[PcmSamples], bool]:
    """Windows [C, window] of samples [C, N], the last of which ends where they end; and whether silence was put behind them.

    Window i begins at i * hop. What the last whole step leaves over is in one more window, which overlaps the one before it.
    hop: None: only the first window.
    """
    count = samples.shape[1]
    if count < window:
        return [np.pad(samples, ((0, 0), (0, window - count)))], True
    starts = list(range(0, count - window + 1, hop)) if hop else [0]
    if hop and starts[-1] + window < count:
        starts.append(count - window)
    return [samples[:, start : start + window] for start in starts], False


def read_sound_files(listing: Listing, options: ReadOptions, progress: Progress) -> StoredDataset:
    """Return the windows of a listing's files. Files, not windows, are held out: those of one recording sound alike.

    Raises: UserError if they cannot be read.
    """
    require_soundfile()
    rate, notes = _own_rate(listing, options)
    audio = options.audio(rate)
    hop = options.hop_length(audio)
    shards = cached(f"sounds/{listing.key}/{hop}", audio, partial(_decoded, listing, audio, hop), listing.names, progress)
    values = {name: value[shards.source_rows] for name, value in listing.values.items()}
    held = np.isin(np.arange(len(listing.names)), listing.splits["test"]) if listing.splits else held_out(len(listing.names))
    files = len(np.unique(shards.source_rows))
    if len(shards) > files:
        notes.append(f"cut into {len(shards):,} windows of {audio.samples:,} samples, from {files:,} files")
    notes += conversion_notes(shards, "sound")
    return StoredDataset.of(shards, listing.labels, values, np.flatnonzero(held[shards.source_rows]), notes)


def _decoded(listing: Listing, audio: Audio, hop: int) -> Iterator[Item]:
    """Return the windows of each file of a listing, in its order, decoded by a few threads just ahead of the reader."""

    def one(name: str) -> Item:
        try:
            with listing.open(name) as file:
                samples, done = decode_sound(file, audio.sample_rate, audio.channels)
        except (BadFile, OSError) as error:
            return Item(None, problem=str(error))
        windows, padded = cut_windows(samples, audio.samples, hop)
        return Item(windows, frozenset(done | ({PADDED} if padded else set())))

    ahead = 2 * (os.cpu_count() or 1)  # files may be long, and all of these are in memory
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        for start in range(0, len(listing.names), ahead):
            yield from threads.map(one, listing.names[start : start + ahead])


def _own_rate(listing: Listing, options: ReadOptions) -> tuple[int, list[str]]:
    """Return the rate that a listing's files have in common, or the lowest, which all can be brought to without inventing
    anything.
    """
    if options.sample_rate is not None:
        return options.sample_rate, []
    rates = Counter(header.sample_rate for header in _surveyed(listing))
    lowest = min(rates)
    if len(rates) == 1:
        return lowest, []
    note = f"of {len(rates)} rates, from {lowest:,} to {max(rates):,} Hz: the lowest is used; choose another with --rate"
    return lowest, [note]


def _surveyed(listing: Listing) -> list[SoundHeader]:
    """Return what the headers of a listing's files say; kept, since a large folder takes a while to look through."""
    path = cache_folder() / "surveys" / f"{listing.key}-sounds.json"
    if path.is_file():
        try:
            return [SoundHeader(*values) for values in read_json(path)]
        except (UserError, TypeError):
            path.unlink(missing_ok=True)
    headers, problem = [], ""  # others are reported when they are decoded
    for name in listing.names:
        try:
            with listing.open(name) as file:
                headers.append(survey_sound(file))
        except (BadFile, OSError) as error:
            problem = problem or f"{name}: {error}"
    if not headers:
        raise UserError(f"none of {len(listing.names)} sounds can be read; {problem}")
    write_json(path, [[header.sample_rate, header.channels, header.samples] for header in headers])
    return headers


def read_fsdd(options: ReadOptions, progress: Progress) -> StoredDataset:
    """Return the spoken digits, one window of each, with the official split: takes 0 to 4 of each digit and speaker are held
    out.

    Raises: UserError if they are not at hand, or are to be read at another rate or in two channels.
    """
    path = locate("fsdd") / "fsdd_8k_int16.npz"
    arrays = load_arrays(path, ("start", "length", "digit", "speaker", "take", "speaker_names", "sample_rate"))
    rate = int(arrays["sample_rate"][0])
    audio = options.audio(rate)
    if (audio.sample_rate, audio.channels) != (rate, 1):
        raise UserError(f"fsdd is read at {rate} Hz in one channel, as it is: leave out --sample-rate and --channels")
    hop = None if options.hop is None else options.hop_length(audio)
    length = arrays["length"].astype(np.int64)

    def items() -> Iterator[Item]:
        whole = load_arrays(path, ("audio",))["audio"]
        for start, n in zip(arrays["start"].tolist(), length.tolist(), strict=True):
            windows, padded = cut_windows(whole[None, start : start + n], audio.samples, hop)
            long = n > audio.samples and hop is None
            yield Item(windows, frozenset([PADDED] * padded + ["longer than a window, and cut at its end"] * long))

    names = [f"clip {i}" for i in range(len(length))]
    stat = path.stat()
    shards = cached(f"fsdd/{stat.st_size}/{stat.st_mtime_ns}/{hop}", audio, items, names, progress)
    speakers = tuple(str(name) for name in arrays["speaker_names"])
    labels = (Label("digit", tuple(str(i) for i in range(10))), Label("speaker", speakers))
    values = {name: arrays[name].astype(np.int64)[shards.source_rows] for name in ("digit", "speaker")}
    test = np.flatnonzero(arrays["take"][shards.source_rows] < 5)
    return StoredDataset.of(shards, labels, values, test, conversion_notes(shards, "clip"))
