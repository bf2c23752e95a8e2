"""`anamorph inpaint RUN IMAGE --mask FILE`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from anamorph.cli.options import Common, RunArgument, emit, parse, report_progress
from anamorph.core.errors import UserError

__all__ = ["main"]


@dataclass(frozen=True)
class Inpaint(Common):
    """Draw a part of an image anew, several times, with a model that has a prior over its codes."""

    run: RunArgument = tyro.MISSING
    """The folder of a prior's run."""
    image: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="IMAGE")] = tyro.MISSING
    """A file, seed:7 or data:12."""
    mask: Path = tyro.MISSING
    """An image file of the same shape: white where it is to be drawn anew, black where it is to stay."""
    n: int = 6
    """How many draws."""
    temperature: float = 1.0
    """Below 1, likelier codes are preferred; above, less likely ones."""
    top_k: int | None = None
    """Draw each code from so many of the likeliest."""
    top_p: float | None = None
    """Draw each code from the likeliest that make up this share."""


def main(words: Sequence[str]) -> int:
    options = parse(Inpaint, "inpaint", words)
    if options.n < 1:
        raise UserError(f"--n must be at least 1, got {options.n}")

    from dataclasses import replace

    import torch

    from anamorph.cli.image_arguments import encode_arguments
    from anamorph.core.model import HasPrior, require
    from anamorph.core.prior import SamplingSettings
    from anamorph.core.random import Seeded
    from anamorph.core.signal import require_image
    from anamorph.data.single_files import read_images
    from anamorph.edit.inpaint import inpaint
    from anamorph.figures.grid import Row
    from anamorph.figures.show import show

    taste = SamplingSettings(options.temperature, options.top_k, options.top_p)
    model = require(options.load(options.run), HasPrior, "drawing a part of an image anew")
    signal = require_image(model.signal, "inpainting")
    mask, _ = read_images([options.mask], replace(signal, channels=1))
    redrawn = mask[0, 0] > 0
    with options.computing(), report_progress("drawing codes") as progress:
        (picked,) = encode_arguments(model, options.run, [options.image])
        random = Seeded(options.seed, "inpaint", device=options.device)
        codes = inpaint(model, picked.codes, redrawn.to(options.device), options.n, random, taste, progress)
        drawn = model.decode(codes).float()
    left = torch.where(redrawn.to(picked.image.device), torch.zeros_like(picked.image), picked.image)
    rows = [Row("image", picked.image), Row("what stays", left), Row("drawn anew", drawn)]
    path = options.out or options.run / "inpaint.png"
    show(path, signal, rows)
    emit(options.json, f"{path}: {options.n} draws of a part of {picked.name}", path=path, n=options.n)
    return 0
