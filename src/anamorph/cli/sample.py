"""`anamorph sample RUN --n 16`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import tyro

from anamorph.cli.factor_classifier import LEARN
from anamorph.cli.options import Common, RunArgument, emit, note, parse, report_progress
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from anamorph.core.model import HasMapping, Samples
    from anamorph.core.space import Codes
    from anamorph.edit.reject import Rejection

__all__ = ["main"]


@dataclass(frozen=True)
class Sample(Common):
    """Draw new images or sounds, the same ones for the same seed; write them as one picture, sounds as WAV files, too."""

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
    keep_best: str | None = None
    """M/N, such as 1/4: of every N draws of a class keep the M that look most like it, to a classifier which is trained once
    on the run's own images, and kept in its folder. For models that draw by class."""
    learn: int = LEARN
    """Images that this classifier is trained on."""
    noise: Literal["fixed", "off", "fresh"] = "fixed"
    """fixed: each code's own image. off: without noise. fresh: a sample of the images that the code stands for."""


def main(words: Sequence[str]) -> int:
    options = parse(Sample, "sample", words)
    if options.n < 1:
        raise UserError(f"--n must be at least 1, got {options.n}")
    if options.cutoff is not None and options.psi is None:
        raise UserError("--cutoff says how many layers --psi acts on: give --psi, too")

    from anamorph.core.model import HasMapping, Samples, decode_in_chunks, require
    from anamorph.core.random import Seeded
    from anamorph.edit.reject import Rejection
    from anamorph.edit.truncate import truncate
    from anamorph.figures.show import show_all

    model = require(options.load(options.run), Samples, "sampling")
    rejection = None if options.keep_best is None else Rejection.parse(options.keep_best)
    labels = classes_asked_for(options, model, options.n if rejection is None else rejection.of)
    with options.computing():
        codes = _best(model, options, rejection, labels) if rejection else _draw(model, options, options.n, labels)
        if options.psi is not None:
            mapper = require(model, HasMapping, "truncation")
            _check_cutoff(mapper, options.cutoff)
            codes = truncate(codes, mapper.w_mean, options.psi, options.cutoff)
        if options.noise == "fresh":
            images = model.decode(codes, Seeded(options.seed, "noise", device=options.device))
        else:
            images = decode_in_chunks(model, codes, options.noise)
    path = options.out or options.run / "sample.png"
    written = show_all(path, model.signal, images)
    emit(options.json, f"{written}: {options.n} samples, seed {options.seed}", **written.paths, n=options.n, seed=options.seed)
    return 0


def _draw(model: Samples, options: Sample, n: int, labels: dict[str, Tensor]) -> Codes:
    from anamorph.core.model import HasPrior, require
    from anamorph.core.prior import SamplingSettings
    from anamorph.core.random import Seeded

    taste = SamplingSettings(options.temperature, options.top_k, options.top_p)
    random = Seeded(options.seed, "samples", device=options.device)
    if not isinstance(model, HasPrior):
        if taste != SamplingSettings():
            require(model, HasPrior, "a temperature, top-k or top-p")
        return model.sample_codes(n, random, labels)
    with report_progress("drawing codes") as progress:
        return model.sample_codes(n, random, labels, taste, progress=progress)


def _best(model: Samples, options: Sample, rejection: Rejection, asked: dict[str, Tensor]) -> Codes:
    """The draws that look most like what they are of, group by group; each group is of one class."""
    from anamorph.cli.factor_classifier import factor_classifier
    from anamorph.core.model import decode_in_chunks
    from anamorph.core.random import Seeded
    from anamorph.data.images import images_of
    from anamorph.run_data import open_data
    from anamorph.runs import settings_of
    from anamorph.training.folder import RunFolder

    if len(model.classes) != 1:
        raise UserError("--keep-best is for models that draw by class: train the prior with --model.num-classes")
    (label, classes), groups = next(iter(model.classes.items())), rejection.groups(options.n)
    if asked:
        wanted = asked[label].repeat(groups)
    else:
        lots = Seeded(options.seed, "classes", device=options.device).integers(0, classes, (groups,))
        wanted = lots.repeat_interleave(rejection.of)
    settings = settings_of(RunFolder(options.run))
    train, held = (images_of(open_data(settings, split)).shuffled() for split in ("train", "test"))
    reader = factor_classifier(options.run, train, held, options.learn).to(options.device)
    codes = _draw(model, options, len(wanted), {label: wanted})
    chances = reader.probabilities(decode_in_chunks(model, codes))[label]
    best = rejection.best(chances.gather(1, wanted[:, None]).squeeze(1), options.n)
    right = (chances.argmax(1) == wanted).float()
    note(f"of what was drawn {right.mean():.0%} is read as its class, of what is kept {right[best].mean():.0%}")
    return {name: value[best] for name, value in codes.items()}


def _check_cutoff(model: HasMapping, cutoff: int | None) -> None:
    layers = model.spaces[0].shape[0] if model.spaces[0].layered else 0
    if cutoff is not None and not 0 <= cutoff <= layers:
        raise UserError(f"this model has {layers or 'no'} layers of codes; got --cutoff {cutoff}")


def classes_asked_for(options: Sample, model: Samples, n: int) -> dict[str, Tensor]:
    """The class of each of n samples, by label, as asked for with --label name=value.

    Raises: UserError for a label or a class that the model was not trained with.
    """
    import torch

    from anamorph.cli.classes import class_numbers

    numbers = class_numbers(options.run, options.label, model.classes, "the model draws no")
    return {name: torch.full((n,), number, device=options.device) for name, number in numbers.items()}
