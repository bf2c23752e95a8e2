"""`anamorph import KIND FILE --out RUN`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import tyro

from anamorph.cli.options import emit, note, parse, parse_size
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from anamorph.interop.imported_run import Imported

__all__ = ["main"]

Kind = Literal["alae", "stylegan", "vqvae2", "pixelsnail"]


@dataclass(frozen=True)
class Import:
    """Open weights that the original code of a model has written, as a run. Nothing in the file is executed."""

    kind: Annotated[tyro.conf.Positional[Kind], tyro.conf.arg(metavar="|".join(get_args(Kind)))]
    """alae: a .pth of github.com/podgorskiy/ALAE. stylegan: a .pth of genforce, NVIDIA's .pkl, or its variables as .npz or
    .safetensors. vqvae2, pixelsnail: .pt files of github.com/rosinality/vq-vae-2-pytorch."""
    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE...")]
    """The file; of pixelsnail, one for each level of codes, the coarsest first."""
    out: Path
    """The run's folder."""
    size: str | None = None
    """Height and width of the images, such as 256 or 64x48, where the file does not tell (vqvae2)."""
    codes_of: Path | None = None
    """pixelsnail: the run whose codes these priors are laws of (`anamorph import vqvae2` makes one)."""
    raw: bool = False
    """Use the trained weights themselves, not their running average."""
    json: bool = False
    """Print the result as JSON."""


def main(words: Sequence[str]) -> int:
    options = parse(Import, "import", words)

    from anamorph.core.model import Samples
    from anamorph.interop.imported_run import write_run

    imported = _read(options)
    for told in imported.notes:
        note(told)
    settings = write_run(imported, options.out, options.raw)
    reached = settings.signal.at(settings.level)
    text, can = f"{settings.model} of {settings.signal}", "sample" if isinstance(imported.model, Samples) else "reconstruct"
    if settings.level:
        text += f", grown to {reached} so far"
    facts = {"model": settings.model, "signal": str(settings.signal), "level": settings.level, "run": str(options.out)}
    emit(options.json, f"{text}: {options.out}; next: `anamorph {can} {options.out}`", **facts)
    return 0


def _read(options: Import) -> Imported:
    if (options.kind == "pixelsnail") != (options.codes_of is not None):
        raise UserError("--codes-of goes with pixelsnail: the run whose codes it is a law of")
    if options.kind == "pixelsnail":
        from anamorph.interop.import_pixelsnail import read_priors

        return read_priors(options.files, str(options.codes_of))
    if len(options.files) != 1:
        raise UserError(f"one file holds {options.kind}, got {len(options.files)}")
    (file,) = options.files
    if options.kind == "vqvae2":
        from anamorph.interop.import_vqvae2 import read_vqvae2

        return read_vqvae2(file, parse_size(options.size))
    if options.size is not None:
        raise UserError(f"--size is for vqvae2: a file of {options.kind} tells the size of its images")
    if options.kind == "alae":
        from anamorph.interop.import_alae import read_alae

        return read_alae(file)
    from anamorph.interop.import_stylegan import read_stylegan

    return read_stylegan(file)
