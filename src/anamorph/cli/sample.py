"""`anamorph sample RUN --n 16`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import tyro

from anamorph.cli.options import Common, RunArgument, emit, parse, report_progress
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from anamorph.core.model import Draws, Maps
    from anamorph.core.space import Codes

__all__ = ["main"]


@dataclass(frozen=True)
class Sample(Common):
    """Draw new images, the same ones for the same seed, and write them as one picture."""

    run: RunArgument = tyro.MISSING
    """The run's folder."""
    n: int = 16
    """How many."""
    psi: float | None = None
    """Truncation: 1 leaves the codes as drawn, 0 gives their mean. For models that map."""
    cutoff: int | None = None
    """Truncate only so many layers, from the coarsest on (8 in StyleGAN's figures); by default all. For models with layers."""
    temperature: float = 1.0
    """Below 1, likelier codes are preferred; above, less likely ones. For models with a prior over codes, as the next two."""
    top_k: int | None = None
    """Draw each code from so many of the likeliest."""
    top_p: float | None = None
    """Draw each code from the likeliest that make up this share."""
    label: tuple[str, ...] = ()
    """The class to draw, as name=value; the value is a class's name or its number. Without, all classes alike."""
    noise: Literal["fixed", "off", "fresh"] = "fixed"
    """fixed: each code's own image. off: without noise. fresh: a sample of the images that the code stands for."""


def main(words: Sequence[str]) -> int:
    options = parse(Sample, "sample", words)
    if options.n < 1:
        raise UserError(f"--n must be at least 1, got {options.n}")
    if options.cutoff is not None and options.psi is None:
        raise UserError("--cutoff says how many layers --psi acts on: give --psi, too")

    from anamorph.core.model import Draws, Maps, decode_in_parts, require
    from anamorph.core.random import Seeded
    from anamorph.edit.truncate import truncate
    from anamorph.figures.grid import save_grid

    model = require(options.load(options.run), Draws, "sampling")
    with options.computing():
        codes = _draw(model, options)
        if options.psi is not None:
            mapper = require(model, Maps, "truncation")
            _check_cutoff(mapper, options.cutoff)
            codes = truncate(codes, mapper.centre, options.psi, options.cutoff)
        if options.noise == "fresh":
            images = model.decode(codes, Seeded(options.seed, "noise", device=options.device))
        else:
            images = decode_in_parts(model, codes, options.noise)
    path = options.out or options.run / "sample.png"
    save_grid(path, images)
    emit(options.json, f"{path}: {options.n} samples, seed {options.seed}", path=path, n=options.n, seed=options.seed)
    return 0


def _draw(model: Draws, options: Sample) -> Codes:
    from anamorph.core.model import Chooses, require
    from anamorph.core.prior import Taste
    from anamorph.core.random import Seeded

    taste = Taste(options.temperature, options.top_k, options.top_p)
    random = Seeded(options.seed, "samples", device=options.device)
    labels = classes_asked_for(options, model)
    if not isinstance(model, Chooses):
        if taste != Taste():
            require(model, Chooses, "a temperature, top-k or top-p")
        return model.draw(options.n, random, labels)
    with report_progress("drawing codes") as progress:
        return model.choose(options.n, random, labels, taste, progress=progress)


def _check_cutoff(model: Maps, cutoff: int | None) -> None:
    layers = model.spaces[0].shape[0] if model.spaces[0].layered else 0
    if cutoff is not None and not 0 <= cutoff <= layers:
        raise UserError(f"this model has {layers or 'no'} layers of codes; got --cutoff {cutoff}")


def classes_asked_for(options: Sample, model: Draws) -> dict[str, Tensor] | None:
    """The class of each sample, by label, as asked for with --label name=value.

    Raises: UserError for a label or a class that the model was not trained with.
    """
    import torch

    from anamorph.core.errors import nearest
    from anamorph.runs import class_names

    if not options.label:
        return None
    found = {}
    for text in options.label:
        name, _, value = text.partition("=")
        if name not in model.classes:
            raise UserError(f"--label {text}: the model draws no {name!r}: {nearest(name, model.classes)}")
        names = class_names(options.run, name)
        if value not in names and not (value.isdigit() and int(value) < model.classes[name]):
            raise UserError(f"--label {text}: {name} has no class {value!r}: {nearest(value, names)}")
        number = names.index(value) if value in names else int(value)
        found[name] = torch.full((options.n,), number, device=options.device)
    return found
