"""The IMAGE arguments of commands, images or sounds: files, seed:7, data:12; and whole sources."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType

from torch import Tensor

from anamorph.cli.options import note, report_progress
from anamorph.core.errors import UserError
from anamorph.core.labels import add_labels, encode_batch, with_labels
from anamorph.core.model import Encodes, LatentModel, Samples, level_of, require
from anamorph.core.random import Seeded
from anamorph.core.signal import Batch, Image
from anamorph.core.space import Codes, concatenate
from anamorph.data.dataset import Dataset
from anamorph.data.open import BUILT_IN, ReadOptions, open_source, split_of
from anamorph.data.public_datasets import PUBLIC_DATASETS
from anamorph.data.single_files import read_images, read_sounds
from anamorph.run_data import preview_data
from anamorph.runs import settings_of
from anamorph.training.folder import RunFolder

BATCH = 256
"""Examples that are read at a time."""
NAME = re.compile(r"(seed|data):(?!(?:train|test|all)$)(.*)")

__all__ = ["ImageArgument", "as_source", "encode_arguments", "encode_source", "open_like", "read_arguments", "stack_codes"]


@dataclass(frozen=True)
class ImageArgument:
    """An image [1, C, H, W] or sound [1, C, T], and its codes."""

    name: str
    image: Tensor
    codes: Codes


def encode_arguments(
    model: LatentModel, run: Path, words: Sequence[str], classes: Mapping[str, int] = MappingProxyType({})
) -> list[ImageArgument]:
    """What the words of a command name: seeds are drawn, everything else is read and encoded.

    classes: codes that are labels, to be taken instead of their own.
    Raises: UserError for what is none of these, or cannot be drawn or encoded by this model.
    """
    found = []
    for word, batch in _read(model, run, words):
        kind, number = _named(word)
        image = batch.signals
        drawn = _drawn(model, word, number) if kind == "seed" else None
        codes = with_labels(drawn or require(model, Encodes, f"encoding {word}").encode(image), classes)
        codes = add_labels(model, codes, batch.labels, word)
        found.append(ImageArgument(word if kind else Path(word).name, image, codes))
    common = set.intersection(*(set(p.codes) for p in found)) if found else set()
    return [ImageArgument(p.name, p.image, {name: p.codes[name] for name in p.codes if name in common}) for p in found]


def read_arguments(model: LatentModel, run: Path, words: Sequence[str]) -> list[tuple[str, Tensor]]:
    """The images [1, C, H, W] or sounds [1, C, T] that the words of a command name, each with its word; seeds are drawn.

    Raises: UserError for what is none of these, or cannot be drawn.
    """
    return [(word, batch.signals) for word, batch in _read(model, run, words)]


def _read(model: LatentModel, run: Path, words: Sequence[str]) -> list[tuple[str, Batch]]:
    device = next(model.parameters()).device
    held = cache(lambda: preview_data(settings_of(RunFolder(run))))
    found = []
    for word in words:
        kind, number = _named(word)
        if kind == "seed":
            batch = Batch(model.decode(_drawn(model, word, number)))
        else:
            batch = _held_out(model, held(), word, number) if kind == "data" else Batch(_file(model, word))
        found.append((word, batch.to(device)))
    return found


def _named(word: str) -> tuple[str, str]:
    """seed or data, and what is behind the colon; or nothing, for a file."""
    found = NAME.fullmatch(word)
    return (found[1], found[2]) if found else ("", "")


def _drawn(model: LatentModel, word: str, number: str) -> Codes:
    device = next(model.parameters()).device
    return require(model, Samples, word).sample_codes(1, Seeded(_number(word, number), "seed", device=device))


def stack_codes(picked: Sequence[ImageArgument]) -> Codes:
    """The codes of several examples, [n, ...]."""
    return concatenate([p.codes for p in picked])


def encode_source(model: Encodes, source: Dataset, n: int) -> tuple[Codes, dict[str, Tensor]]:
    """The codes of a source's first n examples, and their labels, [n, ...]; with progress."""
    device, codes, labels = next(model.parameters()).device, [], []
    with report_progress("encoding") as progress:
        for start in range(0, n, BATCH):
            batch = source.take(start, min(BATCH, n - start))
            codes.append(encode_batch(model, batch.to(device), source.name))
            labels.append(batch.labels)
            progress(start + len(batch), n)
    return concatenate(codes), concatenate(labels)


def _number(word: str, number: str) -> int:
    if not number.isdigit():
        raise UserError(f"{word!r}: wanted a whole number behind the colon, as in seed:7 or data:12")
    return int(number)


def _held_out(model: LatentModel, data: Dataset, word: str, number: str) -> Batch:
    """An example of the run's own, at the level that the model has grown to."""
    if _number(word, number) >= data.size:
        raise UserError(f"{word}: the run has {data.size} such {data.signal.noun}s, numbered from 0")
    return data.take(int(number), 1, level_of(model, data.signal))


def _file(model: LatentModel, word: str) -> Tensor:
    signal = model.signal
    x, notes = read_images([word], signal) if isinstance(signal, Image) else read_sounds([word], signal)
    for told in notes:
        note(told)
    return x


def as_source(model: LatentModel, run: Path, words: Sequence[str]) -> Dataset | None:
    """The held-out examples of the source that a single word names, read as the run's own; None if it names one example."""
    if len(words) != 1 or NAME.fullmatch(words[0]):
        return None
    name, _ = split_of(words[0])
    arrays = (".npz", ".npy", ".zip", "-ubyte", "-ubyte.gz")
    if not (name in BUILT_IN or name in PUBLIC_DATASETS or Path(name).is_dir() or name.lower().endswith(arrays)):
        return None
    return open_like(model, run, words[0], "test")


def open_like(model: LatentModel, run: Path, source: str, split: str) -> Dataset:
    """A source's examples, read as the run's own: their size, or their rate and length, and what their names say.

    Raises: UserError if they are of another kind.
    """
    wanted = replace(ReadOptions.like(model.signal), name_pattern=settings_of(RunFolder(run)).name_pattern)
    opened = open_source(source, wanted, split=split, seed=None)
    if type(opened.signal) is not type(model.signal):
        raise UserError(f"{source} holds {opened.signal.noun}s, and this is a model of {model.signal.noun}s of {model.signal}")
    for told in opened.notes:
        note(told)
    return opened
