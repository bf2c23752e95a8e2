"""`anamorph compress RUN IMAGE... or SOURCE`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from anamorph.cli.options import ImageArguments, RunArgument, emit, note, parse, report_progress
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from anamorph.data.dataset import Dataset
    from anamorph.models.two_stage import TwoStageModel

__all__ = ["SUFFIX", "free", "main"]

SUFFIX = ".anam"


@dataclass(frozen=True)
class Compress:
    """Write images as small files: their codes, coded under the model's prior. The model's reconstructions come back."""

    run: RunArgument = tyro.MISSING
    """The folder of a prior's run."""
    images: ImageArguments = ()
    """Files, seed:7, data:12; or one source, whose held-out images are taken (write :train or :all behind it for others)."""
    out: Path | None = None
    """A folder, for a file per image; or a file that ends in .anam, for all images together, which is smaller. By default, next
    to each image."""
    label: tuple[str, ...] = ()
    """The class of the images, as name=value, for a prior that is told one; the value is a class's name or its number."""
    fit: bool = False
    """Crop and resize images, and change their colours, where they do not fit the model; otherwise, they are refused."""
    overwrite: bool = False
    """Replace files that are there."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True)
class _Asked:
    """Signals [n, ...], the sizes that they had, if any was fitted, and the labels of a source."""

    signals: Tensor
    originals: list[tuple[int, ...]] = field(default_factory=list)
    labels: dict[str, Tensor] = field(default_factory=dict)


def main(words: Sequence[str]) -> int:
    options = parse(Compress, "compress", words)
    if not options.images:
        raise UserError("name the images to compress: files, data:12, or a source such as digits:test")

    from anamorph.cli.image_arguments import as_source
    from anamorph.coding.compress import compress
    from anamorph.coding.container import unpack
    from anamorph.coding.lockstep import distributions_of
    from anamorph.core.files import atomic_write
    from anamorph.core.signal import Image
    from anamorph.runs import load

    model, _ = distributions_of(load(options.run))
    source = as_source(model, options.run, options.images)
    together = source is not None or (options.out is not None and options.out.suffix == SUFFIX)
    paths = free(_places(options, source is not None), options.overwrite)
    asked = _read(model, options) if source is None else _whole(model, source, options)
    labels = asked.labels | _labels(model, options, len(asked.signals))
    with report_progress("coding") as progress:
        files = compress(model, asked.signals, labels, joint=together, originals=asked.originals, progress=progress)
    told = []
    for path, data in zip(paths, files, strict=True):
        with atomic_write(path) as temporary:
            temporary.write_bytes(data)
        packed = unpack(data)
        bits = 8 * len(data) / (packed.count * math.prod(model.signal.shape[1:]))
        facts = {"path": str(path), "images": packed.count, "bytes": len(data), "code_bytes": len(packed.payload)}
        unit = "pixel" if isinstance(model.signal, Image) else "sample"
        told.append((f"{path}: {len(data):,} bytes, {bits:.3f} bits per {unit}", facts | {f"bits_per_{unit}": bits}))
    emit(options.json, "\n".join(line for line, _ in told), files=[facts for _, facts in told])
    return 0


def free(paths: Sequence[Path], overwrite: bool) -> Sequence[Path]:
    """Paths at which files can be written.

    Raises: UserError if two are the same, or there is a file already, which is not to be replaced.
    """
    for i, path in enumerate(paths):
        if path in paths[:i]:
            raise UserError(f"two files would be written to {path}: give --out, or write them one at a time")
        if path.exists() and not overwrite:
            raise UserError(f"{path} is there already: name another --out, or replace it with --overwrite")
    return paths


def _places(options: Compress, source: bool) -> list[Path]:
    """Where the files go."""
    out = options.out
    if out is not None and out.suffix == SUFFIX:
        return [out]
    if source:
        return [(out or options.run) / f"compressed{SUFFIX}"]

    from anamorph.cli.image_arguments import NAME

    stems = [word.replace(":", "-") if NAME.fullmatch(word) else Path(word).stem for word in options.images]
    folders = [options.run if NAME.fullmatch(word) else Path(word).parent for word in options.images]
    return [(out or folder) / f"{stem}{SUFFIX}" for folder, stem in zip(folders, stems, strict=True)]


def _read(model: TwoStageModel, options: Compress) -> _Asked:
    """Raises: UserError for a file that is not as the model takes it, unless it is to be fitted."""
    import torch

    from anamorph.cli.image_arguments import NAME, read_arguments

    found, sizes = [], []
    fitted = False
    for word in options.images:
        if NAME.fullmatch(word):
            found += [x for _, x in read_arguments(model, options.run, [word])]
            sizes.append(tuple(model.signal.shape[1:]))
            continue
        x, size, done = _file(model, word)
        if done and not options.fit:
            raise UserError(
                f"{word} does not fit the model, which takes {model.signal.noun}s of {model.signal}: it would be {done}; "
                f"allow it with --fit"
            )
        if done:
            note(f"{word} was {done}")
        found.append(x)
        sizes.append(size)
        fitted = fitted or bool(done)
    return _Asked(torch.cat(found), sizes if fitted else [])


def _file(model: TwoStageModel, word: str) -> tuple[Tensor, tuple[int, ...], str]:
    from anamorph.core.signal import Image
    from anamorph.data.single_files import read_image, read_sound

    return read_image(word, model.signal) if isinstance(model.signal, Image) else read_sound(word, model.signal)


def _whole(model: TwoStageModel, source: Dataset, options: Compress) -> _Asked:
    """All of a source, with those of its labels that the prior is told.

    Raises: UserError if its images are not as the model takes them, unless they are to be fitted.
    """
    if source.notes and not options.fit:
        raise UserError(
            f"the {source.signal.noun}s of {source.name} do not fit the model, which takes {model.signal}: --fit allows it"
        )
    batch = source.take(0, source.size)
    return _Asked(batch.signals, labels={name: value for name, value in batch.labels.items() if name in model.classes})


def _labels(model: TwoStageModel, options: Compress, n: int) -> dict[str, Tensor]:
    """The classes that were asked for."""
    from anamorph.cli.sample import Sample, classes_asked_for

    return classes_asked_for(Sample(run=options.run, label=options.label), model, n)
