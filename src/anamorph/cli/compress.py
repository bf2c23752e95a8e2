"""`anamorph compress RUN IMAGE... or SOURCE`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from anamorph.cli.options import ClassArguments, ImageArguments, RunArgument, emit, note, report_progress
from anamorph.cli.parsing import parse
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from anamorph.data.dataset import Dataset
    from anamorph.models.two_stage import TwoStageModel

__all__ = ["SUFFIX", "free", "main"]

SUFFIX = ".anam"


@dataclass(frozen=True)
class Compress:
    """Write images or sounds as small files: their codes, coded under the model's prior.

    `anamorph decompress` gives back the model's reconstructions.
    """

    run: RunArgument = tyro.MISSING
    """Folder of a prior's run."""
    images: ImageArguments = ()
    """Files, seed:7 or data:12; or one SOURCE, whose held-out examples are used. With :train or :all behind it, those."""
    out: Path | None = None
    """Folder for one file per image; or a file ending in .anam for all images together, which is smaller. Default: beside each
    image."""
    label: ClassArguments = ()
    """Classes of the images, for a prior conditioned on them; a value is a class's name or number, as in class=3."""
    fit: bool = False
    """Crop, resize and change the colours of images that do not fit the model, instead of refusing them."""
    overwrite: bool = False
    """Replace existing files."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True)
class _Input:
    """Signals [n, ...] to compress, their original sizes if any had to be fitted, and the labels of a source."""

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
    inputs = _read(model, options) if source is None else _read_source(model, source, options)
    labels = inputs.labels | _labels(model, options, len(inputs.signals))
    with report_progress("coding") as progress:
        files = compress(model, inputs.signals, labels, joint=together, originals=inputs.originals, progress=progress)
    results = []
    for path, data in zip(paths, files, strict=True):
        with atomic_write(path) as temporary:
            temporary.write_bytes(data)
        packed = unpack(data)
        bits = 8 * len(data) / (packed.count * math.prod(model.signal.shape[1:]))
        facts = {"path": str(path), "images": packed.count, "bytes": len(data), "code_bytes": len(packed.payload)}
        unit = "pixel" if isinstance(model.signal, Image) else "sample"
        results.append((f"{path}: {len(data):,} bytes, {bits:.3f} bits per {unit}", facts | {f"bits_per_{unit}": bits}))
    emit(options.json, "\n".join(line for line, _ in results), files=[facts for _, facts in results])
    return 0


def free(paths: Sequence[Path], overwrite: bool) -> Sequence[Path]:
    """Check that files can be written at the paths, and return them.

    Raises:
        UserError: if two are the same, or one exists and `overwrite` is off.
    """
    for i, path in enumerate(paths):
        if path in paths[:i]:
            raise UserError(f"two files would be written to {path}: give --out, or write them one at a time")
        if path.exists() and not overwrite:
            raise UserError(f"{path} exists already: choose another --out, or replace it with --overwrite")
    return paths


def _places(options: Compress, source: bool) -> list[Path]:
    """Return the paths of the files."""
    out = options.out
    if out is not None and out.suffix == SUFFIX:
        return [out]
    if source:
        return [(out or options.run) / f"compressed{SUFFIX}"]

    from anamorph.cli.image_arguments import NAME

    stems = [word.replace(":", "-") if NAME.fullmatch(word) else Path(word).stem for word in options.images]
    folders = [options.run if NAME.fullmatch(word) else Path(word).parent for word in options.images]
    return [(out or folder) / f"{stem}{SUFFIX}" for folder, stem in zip(folders, stems, strict=True)]


def _read(model: TwoStageModel, options: Compress) -> _Input:
    """Read the images of the command line.

    Raises:
        UserError: for a file that does not fit the model, without --fit.
    """
    import torch

    from anamorph.cli.image_arguments import NAME, read_arguments

    signals, sizes = [], []
    fitted = False
    for word in options.images:
        if NAME.fullmatch(word):
            signals += [x for _, x in read_arguments(model, options.run, [word])]
            sizes.append(tuple(model.signal.shape[1:]))
            continue
        x, size, changes = _file(model, word)
        if changes and not options.fit:
            raise UserError(
                f"{word} does not fit the model, which takes {model.signal.noun}s of {model.signal}: it would be {changes}; "
                f"allow it with --fit"
            )
        if changes:
            note(f"{word} was {changes}")
        signals.append(x)
        sizes.append(size)
        fitted = fitted or bool(changes)
    return _Input(torch.cat(signals), sizes if fitted else [])


def _file(model: TwoStageModel, word: str) -> tuple[Tensor, tuple[int, ...], str]:
    from anamorph.core.signal import Image
    from anamorph.data.single_files import read_image, read_sound

    return read_image(word, model.signal) if isinstance(model.signal, Image) else read_sound(word, model.signal)


def _read_source(model: TwoStageModel, source: Dataset, options: Compress) -> _Input:
    """Read a whole source, with those of its labels that the prior is conditioned on.

    Raises:
        UserError: if its images do not fit the model, without --fit.
    """
    if source.notes and not options.fit:
        raise UserError(
            f"the {source.signal.noun}s of {source.name} do not fit the model, which takes {model.signal}: allow changes with "
            f"--fit"
        )
    batch = source.take(0, source.size)
    return _Input(batch.signals, labels={name: value for name, value in batch.labels.items() if name in model.classes})


def _labels(model: TwoStageModel, options: Compress, n: int) -> dict[str, Tensor]:
    """Return the classes of --label."""
    from anamorph.cli.sample import Sample, sampled_classes

    return sampled_classes(Sample(run=options.run, label=options.label), model, n)
