"""`anamorph vary RUN IMAGE... --psi -1:1.5` or `--noise`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from anamorph.cli.options import Common, ImageArguments, LayersArgument, RunArgument, check_at_least, emit
from anamorph.cli.parsing import parse
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from anamorph.core.model import LatentModel
    from anamorph.core.space import Codes
    from anamorph.figures.grid import Row

__all__ = ["main"]

NOISE_SAMPLES = 32
"""Samples of noise for a standard deviation."""


@dataclass(frozen=True)
class Vary(Common):
    """Vary images, one per row.

    Either they are truncated towards the mean and beyond, or their noise is changed.
    """

    run: RunArgument = tyro.MISSING
    """Folder of the run."""
    images: ImageArguments = ()
    """Files, seed:7 or data:12."""
    psi: Annotated[str | None, tyro.conf.arg(metavar="FROM:TO")] = None
    """Range of the truncation, as in -1:1.5, where 1 is the image itself and 0 the mean. For models with a mapping network."""
    noise: bool = False
    """Vary the noise instead: off, fixed, sampled anew, and the standard deviation over samples. For models with noise maps."""
    layers: LayersArgument = "all"
    """Vary only these layers: coarse, middle, fine, all, 0-3 or 0-1,6."""
    steps: int = 6
    """Images in a row, at least 2."""


def main(words: Sequence[str]) -> int:
    options = parse(Vary, "vary", words)
    if options.noise == (options.psi is not None):
        raise UserError("choose what to vary: --psi -1:1.5, or --noise")
    if not options.images:
        raise UserError("name the images to vary: files, seed:7 or data:12")
    check_at_least(2, steps=options.steps)

    from anamorph.cli.image_arguments import encode_arguments, stack_codes
    from anamorph.figures.show import show

    model = options.load(options.run)
    with options.computing():
        codes = stack_codes(encode_arguments(model, options.run, options.images))
        if options.psi is None:
            rows, heads = _noises(model, codes, options)
        else:
            rows, heads = _psis(model, codes, options)
    title = "noise" if options.noise else "psi"
    title += "" if options.layers == "all" else f", layers {options.layers}"
    path = options.out or options.run / "vary.png"
    written = show(path, model.signal, rows, title, heads)
    n = len(options.images)
    emit(options.json, f"{written}: {n} {model.signal.noun}s varied; {title}", **written.paths, n=n, columns=heads)
    return 0


def _psis(model: LatentModel, codes: Codes, options: Vary) -> tuple[list[Row], list[str]]:
    import torch

    from anamorph.core.model import HasMapping, decode_in_chunks, require
    from anamorph.edit.layers import layers_among
    from anamorph.edit.truncate import truncate
    from anamorph.figures.grid import Row

    mapping = require(model, HasMapping, "truncation")
    ends = _ends(options.psi or "")
    psis = torch.linspace(*ends, options.steps).tolist()
    layers = None if options.layers == "all" else layers_among(options.layers, model.spaces)
    images = [decode_in_chunks(model, truncate(codes, mapping.w_mean, psi, layers)) for psi in psis]
    return [Row(name, [row[i] for row in images]) for i, name in enumerate(options.images)], [f"{psi:.3g}" for psi in psis]


def _noises(model: LatentModel, codes: Codes, options: Vary) -> tuple[list[Row], list[str]]:
    """Rows of each image without noise, with fixed noise, with samples of noise, and the pixels' standard deviation times 8."""
    import torch

    from anamorph.core.model import decode_in_chunks
    from anamorph.core.random import Seeded
    from anamorph.edit.layers import parse_layers
    from anamorph.edit.noise import noise_spaces, sample_noise
    from anamorph.figures.grid import Row

    layers = parse_layers(options.layers, len(noise_spaces(model.spaces)))
    noise = sample_noise(NOISE_SAMPLES, model.spaces, Seeded(options.seed, "noise", device=options.device), layers)
    off, fixed = decode_in_chunks(model, codes, "off"), decode_in_chunks(model, codes)
    rows, shown = [], min(max(1, options.steps - 3), NOISE_SAMPLES)
    for i, name in enumerate(options.images):
        one = {k: v[i : i + 1].expand(NOISE_SAMPLES, *v.shape[1:]) for k, v in codes.items()}
        many = decode_in_chunks(model, {**one, **noise})
        deviation = torch.clamp(many.std(0).mean(0, keepdim=True) * 8 - 1, max=1)
        rows.append(Row(name, [off[i], fixed[i], *many[:shown], deviation]))
    return rows, ["off", "fixed", *["sampled"] * shown, "std x 8"]


def _ends(text: str) -> tuple[float, float]:
    try:
        first, last = map(float, text.split(":"))
    except ValueError:
        raise UserError(f"--psi is a range of two numbers, such as -1:1.5; got {text!r}") from None
    return first, last
