"""`anamorph inpaint RUN IMAGE --mask FILE`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from anamorph.cli.options import Common, RunArgument, check_at_least, emit, report_progress
from anamorph.cli.parsing import parse

__all__ = ["main"]


@dataclass(frozen=True)
class Inpaint(Common):
    """Sample a part of an image anew, several times, from a prior over its codes."""

    run: RunArgument = tyro.MISSING
    """Folder of a prior's run."""
    image: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="IMAGE")] = tyro.MISSING
    """File, seed:7 or data:12."""
    mask: Annotated[Path, tyro.conf.arg(metavar="FILE")] = tyro.MISSING
    """Image file of the same shape: white where the image is sampled anew, black where it is kept."""
    n: int = 6
    """Number of samples, at least 1."""
    temperature: float = 1.0
    """Divide the logits of codes by this, above 0; below 1, likelier codes are preferred."""
    top_k: int | None = None
    """Sample each code from only the k likeliest, at least 1. Default: all."""
    top_p: float | None = None
    """Sample each code from the likeliest with this total probability, above 0 and at most 1. Default: all."""


def main(words: Sequence[str]) -> int:
    options = parse(Inpaint, "inpaint", words)
    check_at_least(1, n=options.n, top_k=options.top_k)

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

    sampling = SamplingSettings(options.temperature, options.top_k, options.top_p)
    model = require(options.load(options.run), HasPrior, "inpainting")
    signal = require_image(model.signal, "inpainting")
    mask, _ = read_images([options.mask], replace(signal, channels=1))
    resampled = mask[0, 0] > 0
    with options.computing(), report_progress("sampling codes") as progress:
        (original,) = encode_arguments(model, options.run, [options.image])
        random = Seeded(options.seed, "inpaint", device=options.device)
        codes = inpaint(model, original.codes, resampled.to(options.device), options.n, random, sampling, progress)
        samples = model.decode(codes).float()
    kept = torch.where(resampled.to(original.image.device), torch.zeros_like(original.image), original.image)
    rows = [Row("image", original.image), Row("kept", kept), Row("samples", samples)]
    path = options.out or options.run / "inpaint.png"
    show(path, signal, rows)
    emit(options.json, f"{path}: {options.n} samples of a part of {original.name}", path=path, n=options.n)
    return 0
