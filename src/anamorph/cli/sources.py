"""`anamorph sources [SOURCE]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import tyro

from anamorph.cli.options import Sound, emit, parse, parse_size, report_progress
from anamorph.core.errors import UserError

__all__ = ["main"]


@dataclass(frozen=True)
class Sources:
    """The sets that are known by name; or what a source holds."""

    source: tyro.conf.Positional[str | None] = None
    """A name, a folder, a .zip, .npz, .npy or IDX file."""
    size: str | None = None
    """Read images at this size, such as 64 or 64x48 (height x width)."""
    channels: Literal[1, 2, 3, 4] | None = None
    """Read images as grey (1), RGB (3) or RGBA (4), sounds in 1 channel (by default) or 2."""
    sound: tyro.conf.OmitArgPrefixes[Sound] = Sound()
    json: bool = False
    """Print the result as JSON."""


def main(words: Sequence[str]) -> int:
    options = parse(Sources, "sources", words)
    return _describe(options.source, options) if options.source else _list(options)


def _list(options: Sources) -> int:
    from anamorph.data.open import BUILT_IN
    from anamorph.data.public_datasets import PUBLIC_DATASETS

    lines = [f"{name:<15} {what}" for name, what in BUILT_IN.items()]
    for name, known in PUBLIC_DATASETS.items():
        lines.append(f"{name:<15} {known.description}; {known.licence} ({_whereabouts(name)})")
    lines.append(
        "or a folder of images or of sounds, a .zip, .npz, .npy or IDX file; write :train, :test or :all behind it for a split"
    )
    emit(options.json, "\n".join(lines), built_in=BUILT_IN, named={n: k.description for n, k in PUBLIC_DATASETS.items()})
    return 0


def _whereabouts(name: str) -> str:
    from anamorph.data.public_datasets import PUBLIC_DATASETS, local_folder

    place = local_folder(PUBLIC_DATASETS[name])
    if place:
        return f"at hand in {place}"
    return (
        "fetched when first used"
        if PUBLIC_DATASETS[name].url
        else f"not at hand: put it into $ANAMORPH_DATA/{PUBLIC_DATASETS[name].folder}"
    )


def _describe(spec: str, options: Sources) -> int:
    from anamorph.data.open import ReadOptions, open_source

    wanted = ReadOptions(parse_size(options.size), options.channels, **vars(options.sound))
    with report_progress("reading") as progress:
        sizes = {}
        for split in ("train", "test"):
            try:
                source = open_source(spec, wanted, split=split, progress=progress)
            except UserError:
                if split == "train":
                    raise
                continue
            sizes[split] = source.size
        source = open_source(spec, wanted, split="train")
    labels = [
        f"{label.name} ({len(label.classes)}: {', '.join(label.classes[:10])}{', ...' * (len(label.classes) > 10)})"
        for label in source.labels
    ]
    splits = ", ".join(f"{n:,} to {split}" for split, n in sizes.items())
    lines = [f"{spec}: {source.signal}; {splits}", f"labels: {'; '.join(labels) or 'none'}", *source.notes]
    facts = {"signal": source.signal, "splits": sizes, "labels": {label.name: label.classes for label in source.labels}}
    emit(options.json, "\n".join(lines), **facts, notes=source.notes, fingerprint=source.fingerprint)
    return 0
