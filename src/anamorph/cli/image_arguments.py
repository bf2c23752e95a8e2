"""IMAGE arguments of commands: files, seed:7 or data:12, images or sounds; and whole sources."""

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
"""Examples encoded at a time."""
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
    """Return the images that IMAGE arguments name, with codes: seeds are sampled, everything else is read and encoded.

    Args:
        model: the run's model.
        run: folder of the run, for its held-out data.
        words: the arguments.
        classes: classes to use instead of the images' own, by label.

    Raises:
        UserError: for anything that is no image, or that the model cannot sample or encode.
    """
    arguments = []
    for word, batch in _read(model, run, words):
        kind, number = _parse(word)
        image = batch.signals
        sampled = _sample(model, word, number) if kind == "seed" else None
        codes = with_labels(sampled or require(model, Encodes, f"encoding {word}").encode(image), classes)
        codes = add_labels(model, codes, batch.labels, word)
        arguments.append(ImageArgument(word if kind else Path(word).name, image, codes))
    common = set.intersection(*(set(a.codes) for a in arguments)) if arguments else set()
    return [ImageArgument(a.name, a.image, {name: a.codes[name] for name in a.codes if name in common}) for a in arguments]


def read_arguments(model: LatentModel, run: Path, words: Sequence[str]) -> list[tuple[str, Tensor]]:
    """Return the images [1, C, H, W] or sounds [1, C, T] that IMAGE arguments name, each with its argument.

    Raises:
        UserError: for anything that is no image, or that the model cannot sample.
    """
    return [(word, batch.signals) for word, batch in _read(model, run, words)]


def _read(model: LatentModel, run: Path, words: Sequence[str]) -> list[tuple[str, Batch]]:
    device = next(model.parameters()).device
    held_out = cache(lambda: preview_data(settings_of(RunFolder(run))))
    batches = []
    for word in words:
        kind, number = _parse(word)
        if kind == "seed":
            batch = Batch(model.decode(_sample(model, word, number)))
        else:
            batch = _held_out(model, held_out(), word, number) if kind == "data" else Batch(_file(model, word))
        batches.append((word, batch.to(device)))
    return batches


def _parse(word: str) -> tuple[str, str]:
    """Split seed:7 or data:12 at its colon; a file gives two empty texts."""
    match = NAME.fullmatch(word)
    return (match[1], match[2]) if match else ("", "")


def _sample(model: LatentModel, word: str, number: str) -> Codes:
    device = next(model.parameters()).device
    return require(model, Samples, word).sample_codes(1, Seeded(_number(word, number), "seed", device=device))


def stack_codes(arguments: Sequence[ImageArgument]) -> Codes:
    """Return the codes of several examples as one batch [n, ...]."""
    return concatenate([argument.codes for argument in arguments])


def encode_source(model: Encodes, source: Dataset, n: int) -> tuple[Codes, dict[str, Tensor]]:
    """Encode the first n examples of a source, showing progress; return codes and labels [n, ...]."""
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
        raise UserError(f"{word!r} needs a whole number behind the colon, as in seed:7 or data:12")
    return int(number)


def _held_out(model: LatentModel, data: Dataset, word: str, number: str) -> Batch:
    """Return a held-out example of the run, at the level that the model has grown to."""
    if _number(word, number) >= data.size:
        raise UserError(f"{word}: the run has {data.size} held-out {data.signal.noun}s, data:0 to data:{data.size - 1}")
    return data.take(int(number), 1, level_of(model, data.signal))


def _file(model: LatentModel, word: str) -> Tensor:
    signal = model.signal
    x, notes = read_images([word], signal) if isinstance(signal, Image) else read_sounds([word], signal)
    for text in notes:
        note(text)
    return x


def as_source(model: LatentModel, run: Path, words: Sequence[str]) -> Dataset | None:
    """Return the held-out examples of a source, if the only word names one; None if the words name examples."""
    if len(words) != 1 or NAME.fullmatch(words[0]):
        return None
    name, _ = split_of(words[0])
    arrays = (".npz", ".npy", ".zip", "-ubyte", "-ubyte.gz")
    if not (name in BUILT_IN or name in PUBLIC_DATASETS or Path(name).is_dir() or name.lower().endswith(arrays)):
        return None
    return open_like(model, run, words[0], "test")


def open_like(model: LatentModel, run: Path, source: str, split: str) -> Dataset:
    """Open a source with the run's size, sample rate, length and name pattern.

    Raises:
        UserError: if its examples are of another kind of signal.
    """
    options = replace(ReadOptions.like(model.signal), name_pattern=settings_of(RunFolder(run)).name_pattern)
    opened = open_source(source, options, split=split, seed=None)
    if type(opened.signal) is not type(model.signal):
        raise UserError(
            f"{source} holds {opened.signal.noun}s, and this is a model of {model.signal.noun}s: choose a source of those"
        )
    for text in opened.notes:
        note(text)
    return opened
