"""`anamorph vary RUN IMAGE... --psi -1:1.5` or `--noise`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro

from anamorph.cli.options import Common, ImageArguments, RunArgument, emit, parse
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from anamorph.core.model import LatentModel
    from anamorph.core.space import Codes
    from anamorph.figures.grid import Row

__all__ = ["main"]

DRAWN = 32
"""Draws of noise that a standard deviation is taken over."""


@dataclass(frozen=True)
class Vary(Common):
    """Rows of an image's variations: drawn towards the mean and beyond it; or with other noise, and how much that changes."""

    run: RunArgument = tyro.MISSING
    """The run's folder."""
    images: ImageArguments = ()
    """Files, seed:7, data:12."""
    psi: str | None = None
    """Truncation from one number to another, as in -1:1.5; 1 is the image itself, 0 the mean. For models that map."""
    noise: bool = False
    """Other noise instead: off, fixed, drawn anew, and its standard deviation. For models with noise maps."""
    layers: str = "all"
    """The layers that are truncated, or whose noise is drawn anew: coarse, middle, fine, all, 0-3 or 0-1,6."""
    steps: int = 6
    """Images in a row."""


def main(words: Sequence[str]) -> int:
    options = parse(Vary, "vary", words)
    if options.noise == (options.psi is not None):
        raise UserError("say what is to vary: --psi -1:1.5, or --noise")
    if not options.images or options.steps < 2:
        raise UserError("name the images to vary (files, seed:7, data:12), and at least 2 --steps")

    from anamorph.cli.image_arguments import encode_arguments, stack_codes
    from anamorph.figures.show import show

    model = options.load(options.run)
    with options.computing():
        codes = stack_codes(encode_arguments(model, options.run, options.images))
        if options.psi is None:
            rows, heads = _noises(model, codes, options)
        else:
            rows, heads = _psis(model, codes, options)
    what = "noise" if options.noise else "psi"
    what += "" if options.layers == "all" else f", layers {options.layers}"
    path = options.out or options.run / "vary.png"
    written = show(path, model.signal, rows, what, heads)
    n = len(options.images)
    emit(options.json, f"{written}: {n} {model.signal.noun}s varied; {what}", **written.paths, n=n, columns=heads)
    return 0


def _psis(model: LatentModel, codes: Codes, options: Vary) -> tuple[list[Row], list[str]]:
    import torch

    from anamorph.core.model import HasMapping, decode_in_chunks, require
    from anamorph.edit.layers import layers_among
    from anamorph.edit.truncate import truncate
    from anamorph.figures.grid import Row

    mapper = require(model, HasMapping, "truncation")
    ends = _ends(options.psi or "")
    psis = torch.linspace(*ends, options.steps).tolist()
    layers = None if options.layers == "all" else layers_among(options.layers, model.spaces)
    found = [decode_in_chunks(model, truncate(codes, mapper.w_mean, psi, layers)) for psi in psis]
    return [Row(name, [row[i] for row in found]) for i, name in enumerate(options.images)], [f"{psi:.3g}" for psi in psis]


def _noises(model: LatentModel, codes: Codes, options: Vary) -> tuple[list[Row], list[str]]:
    """Of each image: off, fixed, some drawn; and the standard deviation of its pixels over all drawn, eight times as large."""
    import torch

    from anamorph.core.model import decode_in_chunks
    from anamorph.core.random import Seeded
    from anamorph.edit.layers import parse_layers
    from anamorph.edit.noise import noise_spaces, sample_noise
    from anamorph.figures.grid import Row

    layers = parse_layers(options.layers, len(noise_spaces(model.spaces)))
    drawn = sample_noise(DRAWN, model.spaces, Seeded(options.seed, "noise", device=options.device), layers)
    off, fixed = decode_in_chunks(model, codes, "off"), decode_in_chunks(model, codes)
    rows, shown = [], min(max(1, options.steps - 3), DRAWN)
    for i, name in enumerate(options.images):
        one = {k: v[i : i + 1].expand(DRAWN, *v.shape[1:]) for k, v in codes.items()}
        many = decode_in_chunks(model, {**one, **drawn})
        deviation = torch.clamp(many.std(0).mean(0, keepdim=True) * 8 - 1, max=1)
        rows.append(Row(name, [off[i], fixed[i], *many[:shown], deviation]))
    return rows, ["off", "fixed", *["drawn"] * shown, "std x 8"]


def _ends(text: str) -> tuple[float, float]:
    try:
        first, last = map(float, text.split(":"))
    except ValueError:
        raise UserError(f"--psi is written as two numbers, -1:1.5; got {text!r}") from None
    return first, last
