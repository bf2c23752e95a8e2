"""`anamorph decompress RUN FILE...`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from anamorph.cli.options import RunArgument, emit, parse, report_progress
from anamorph.core.errors import UserError

__all__ = ["main"]


@dataclass(frozen=True)
class Decompress:
    """Write the images that compressed files stand for, as PNG: exactly what the model makes of the originals."""

    run: RunArgument = tyro.MISSING
    """The folder of the run that compressed them."""
    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE...")] = ()
    """Files that `anamorph compress` wrote."""
    out: Path | None = None
    """The folder of the images; by default that of each file. Of a file of several images, they are numbered."""
    overwrite: bool = False
    """Replace images that are there."""
    json: bool = False
    """Print the result as JSON."""


def main(words: Sequence[str]) -> int:
    options = parse(Decompress, "decompress", words)
    if not options.files:
        raise UserError("name the files to decompress, such as cat.anam")

    from anamorph.cli.compress import free
    from anamorph.coding.compress import decompress
    from anamorph.coding.container import unpack
    from anamorph.figures.grid import as_picture, save_picture
    from anamorph.runs import load

    files = [_bytes_of(path) for path in options.files]
    names = [str(path) for path in options.files]
    counts = [unpack(data, name).count for data, name in zip(files, names, strict=True)]
    places = [_places(path, options.out, count) for path, count in zip(options.files, counts, strict=True)]
    free([path for several in places for path in several], options.overwrite)
    model = load(options.run)
    with report_progress("decoding") as progress:
        found = decompress(model, files, names, progress)
    told = []
    for several, unpacked in zip(places, found, strict=True):
        for i, path in enumerate(several):
            save_picture(path, as_picture(unpacked.signals[i]))
            was = unpacked.originals[i] if unpacked.originals else None
            line = f"{path}: {model.signal}" + (f", of an image of {'x'.join(map(str, was))}" if was else "")
            told.append((line, {"path": str(path), "original": was}))
    emit(options.json, "\n".join(line for line, _ in told), images=[facts for _, facts in told])
    return 0


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _places(path: Path, out: Path | None, count: int) -> list[Path]:
    """Where its images go."""
    folder = out or path.parent
    if count == 1:
        return [folder / f"{path.stem}.png"]
    return [folder / f"{path.stem}-{i:0{len(str(count - 1))}d}.png" for i in range(count)]
