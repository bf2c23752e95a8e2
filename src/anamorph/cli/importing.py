"""`anamorph import KIND FILE --out RUN`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import tyro

from anamorph.cli.options import SizeArgument, emit, note, parse_size
from anamorph.cli.parsing import parse
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from anamorph.interop.imported_run import Imported

__all__ = ["main"]

Kind = Literal["alae", "stylegan", "vqvae2", "pixelsnail"]


@dataclass(frozen=True)
class Import:
    """Import weights written by a model's original code, as a run. Nothing in the file is executed."""

    kind: Annotated[tyro.conf.Positional[Kind], tyro.conf.arg(metavar="|".join(get_args(Kind)))]
    """Format of the file. alae: .pth of github.com/podgorskiy/ALAE. stylegan: .pth of genforce, .pkl of NVIDIA, or its
    variables as .npz or .safetensors. vqvae2, pixelsnail: .pt of github.com/rosinality/vq-vae-2-pytorch."""
    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE...")]
    """File of the weights; for pixelsnail, one for each level of codes, the coarsest first."""
    out: Annotated[Path, tyro.conf.arg(metavar="RUN")]
    """Folder of the new run."""
    size: SizeArgument = None
    """Size of the images in pixels, 256 or 64x48 (height x width). Needed for vqvae2 alone; other files contain it."""
    codes_of: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Run whose codes the priors model, made by `anamorph import vqvae2`. Needed for pixelsnail alone."""
    raw: bool = False
    """Import the trained weights themselves, not their exponential moving average."""
    json: bool = False
    """Print the result as JSON."""


def main(words: Sequence[str]) -> int:
    options = parse(Import, "import", words)

    from anamorph.core.model import Samples
    from anamorph.interop.imported_run import write_run

    imported = _read(options)
    for text in imported.notes:
        note(text)
    settings = write_run(imported, options.out, options.raw)
    text = f"{settings.model} of {settings.signal}"
    if settings.level:
        text += f", grown to {settings.signal.at(settings.level)} so far"
    next_command = "sample" if isinstance(imported.model, Samples) else "reconstruct"
    facts = {"model": settings.model, "signal": str(settings.signal), "level": settings.level, "run": str(options.out)}
    emit(options.json, f"{text}: {options.out}; next: `anamorph {next_command} {options.out}`", **facts)
    return 0


def _read(options: Import) -> Imported:
    if (options.kind == "pixelsnail") != (options.codes_of is not None):
        raise UserError(
            "--codes-of names the run whose codes a pixelsnail models: give it with pixelsnail, and leave it out otherwise"
        )
    if options.kind == "pixelsnail":
        from anamorph.interop.import_pixelsnail import read_priors

        return read_priors(options.files, str(options.codes_of))
    if len(options.files) != 1:
        raise UserError(f"{options.kind} is imported from one file, got {len(options.files)}")
    (file,) = options.files
    if options.kind == "vqvae2":
        from anamorph.interop.import_vqvae2 import read_vqvae2

        return read_vqvae2(file, parse_size(options.size))
    if options.size is not None:
        raise UserError(f"--size is for vqvae2: leave it out, a file of {options.kind} contains the size of its images")
    if options.kind == "alae":
        from anamorph.interop.import_alae import read_alae

        return read_alae(file)
    from anamorph.interop.import_stylegan import read_stylegan

    return read_stylegan(file)
