"""`anamorph decompress RUN FILE...`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from anamorph.cli.options import RunArgument, emit, report_progress
from anamorph.cli.parsing import parse
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from anamorph.core.signal import Signal

__all__ = ["main"]


@dataclass(frozen=True)
class Decompress:
    """Write compressed files as images (PNG) or sounds (WAV).

    They are exactly the model's reconstructions of the originals.
    """

    run: RunArgument = tyro.MISSING
    """Folder of the run that compressed them."""
    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE...")] = ()
    """Files written by `anamorph compress`."""
    out: Path | None = None
    """Folder of the images; those from a file of several are numbered. Default: the folder of each file."""
    overwrite: bool = False
    """Replace existing files."""
    json: bool = False
    """Print the result as JSON."""


def main(words: Sequence[str]) -> int:
    options = parse(Decompress, "decompress", words)
    if not options.files:
        raise UserError("name the files to decompress, such as cat.anam")

    from anamorph.cli.compress import free
    from anamorph.coding.compress import decompress
    from anamorph.coding.container import unpack
    from anamorph.core.signal import Image
    from anamorph.runs import load

    files = [_bytes_of(path) for path in options.files]
    names = [str(path) for path in options.files]
    counts = [unpack(data, name).count for data, name in zip(files, names, strict=True)]
    model = load(options.run)
    suffix = ".png" if isinstance(model.signal, Image) else ".wav"
    places = [_places(path, options.out, count, suffix) for path, count in zip(options.files, counts, strict=True)]
    free([path for several in places for path in several], options.overwrite)
    with report_progress("decoding") as progress:
        decoded = decompress(model, files, names, progress)
    results = []
    for several, unpacked in zip(places, decoded, strict=True):
        for i, path in enumerate(several):
            original = unpacked.originals[i] if unpacked.originals else None
            _write(path, unpacked.signals[i], model.signal, original)
            line = f"{path}: {model.signal}" + (f", from {'x'.join(map(str, original))}" if original else "")
            results.append((line, {"path": str(path), "original": original}))
    emit(options.json, "\n".join(line for line, _ in results), images=[facts for _, facts in results])
    return 0


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _write(path: Path, x: Tensor, signal: Signal, original: tuple[int, ...] | None) -> None:
    """Write an image as PNG; a sound as WAV, without the silence that it was padded with."""
    from anamorph.core.signal import Image
    from anamorph.figures.grid import as_picture, save_picture
    from anamorph.figures.wav import write_wav

    if isinstance(signal, Image):
        save_picture(path, as_picture(x))
    else:
        write_wav(path, x if original is None else x[:, : original[0]], signal.sample_rate)


def _places(path: Path, out: Path | None, count: int, suffix: str) -> list[Path]:
    """Return the paths of the images of a file."""
    folder = out or path.parent
    if count == 1:
        return [folder / f"{path.stem}{suffix}"]
    return [folder / f"{path.stem}-{i:0{len(str(count - 1))}d}{suffix}" for i in range(count)]
