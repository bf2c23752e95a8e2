"""`anamorph import alae|stylegan FILE --out RUN`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from anamorph.cli.options import emit, note, parse

__all__ = ["main"]


@dataclass(frozen=True)
class Import:
    """Open weights that the original code of a model has written, as a run. Nothing in the file is executed."""

    kind: Annotated[tyro.conf.Positional[Literal["alae", "stylegan"]], tyro.conf.arg(metavar="alae|stylegan")]
    """alae: a .pth of github.com/podgorskiy/ALAE. stylegan: a .pth of genforce, NVIDIA's .pkl, or its variables as .npz or
    .safetensors."""
    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """The file."""
    out: Path
    """The run's folder."""
    raw: bool = False
    """Use the trained weights themselves, not their running average."""
    json: bool = False
    """Print the result as JSON."""


def main(words: Sequence[str]) -> int:
    options = parse(Import, "import", words)

    from anamorph.interop.imported import write_run

    if options.kind == "alae":
        from anamorph.interop.alae import read_alae as read
    else:
        from anamorph.interop.stylegan import read_stylegan as read
    imported = read(options.file)
    for told in imported.notes:
        note(told)
    settings = write_run(imported, options.out, options.raw)
    reached = settings.signal.at(settings.level)
    text = f"{settings.model} of {settings.signal}"
    if settings.level:
        text += f", grown to {reached} so far"
    facts = {"model": settings.model, "signal": str(settings.signal), "level": settings.level, "run": str(options.out)}
    emit(options.json, f"{text}: {options.out}; `anamorph sample {options.out}` draws from it", **facts)
    return 0
