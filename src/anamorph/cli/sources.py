"""`anamorph sources [SOURCE]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from anamorph.cli.options import SizeArgument, Sound, emit, parse_size, report_progress
from anamorph.cli.parsing import parse
from anamorph.core.errors import UserError

__all__ = ["main"]


@dataclass(frozen=True)
class Sources:
    """List the data sets known by name, or describe a source."""

    source: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="[SOURCE]")] = None
    """Source to describe: a name, a folder, or a .zip, .npz, .npy or IDX file. Default: list the named ones."""
    size: SizeArgument = None
    """Crop and resize images to this size in pixels, 64 or 64x48 (height x width). Default: as they are."""
    channels: Literal[1, 2, 3, 4] | None = None
    """Number of channels to read: images in grey (1), RGB (3) or RGBA (4), sounds in mono (1) or stereo (2). Default: the
    images' own; mono."""
    json: bool = False
    """Print the result as JSON."""
    sound: tyro.conf.OmitArgPrefixes[Sound] = Sound()


def main(words: Sequence[str]) -> int:
    options = parse(Sources, "sources", words)
    return _describe(options.source, options) if options.source else _list(options)


def _list(options: Sources) -> int:
    from anamorph.data.open import BUILT_IN
    from anamorph.data.public_datasets import PUBLIC_DATASETS

    lines = [f"{name:<15} {description}" for name, description in BUILT_IN.items()]
    for name, known in PUBLIC_DATASETS.items():
        lines.append(f"{name:<15} {known.description}; {known.licence} ({_location(name)})")
    lines.append(
        "or a folder of images or of sounds, or a .zip, .npz, .npy or IDX file; :train, :test or :all behind it chooses a part"
    )
    emit(options.json, "\n".join(lines), built_in=BUILT_IN, named={n: k.description for n, k in PUBLIC_DATASETS.items()})
    return 0


def _location(name: str) -> str:
    from anamorph.data.public_datasets import PUBLIC_DATASETS, local_folder

    dataset = PUBLIC_DATASETS[name]
    folder = local_folder(dataset)
    if folder:
        return f"in {folder}"
    return "downloaded when first used" if dataset.url else f"missing: put it into $ANAMORPH_DATA/{dataset.folder}"


def _describe(spec: str, options: Sources) -> int:
    from anamorph.data.open import ReadOptions, open_source

    read_options = ReadOptions(parse_size(options.size), options.channels, **vars(options.sound))
    with report_progress("reading") as progress:
        sizes = {}
        for split in ("train", "test"):
            try:
                source = open_source(spec, read_options, split=split, progress=progress)
            except UserError:
                if split == "train":
                    raise
                continue
            sizes[split] = source.size
        source = open_source(spec, read_options, split="train")
    labels = [
        f"{label.name} ({len(label.classes)}: {', '.join(label.classes[:10])}{', ...' * (len(label.classes) > 10)})"
        for label in source.labels
    ]
    splits = ", ".join(f"{n:,} to {split}" for split, n in sizes.items())
    lines = [f"{spec}: {source.signal}; {splits}", f"labels: {'; '.join(labels) or 'none'}", *source.notes]
    facts = {"signal": source.signal, "splits": sizes, "labels": {label.name: label.classes for label in source.labels}}
    emit(options.json, "\n".join(lines), **facts, notes=source.notes, fingerprint=source.fingerprint)
    return 0
