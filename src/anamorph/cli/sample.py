"""`anamorph sample RUN --n 16`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from anamorph.cli.factor_classifier import CLASSIFIER_IMAGES
from anamorph.cli.options import ClassArguments, Common, RunArgument, check_at_least, emit, note, report_progress
from anamorph.cli.parsing import ADVANCED, parse
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from anamorph.core.model import HasMapping, Samples
    from anamorph.core.space import Codes
    from anamorph.edit.reject import RejectionSampling

__all__ = ["main"]


@dataclass(frozen=True)
class Sample(Common):
    """Sample new images or sounds, the same ones for the same seed.

    They are written as one picture; sounds also as WAV files.
    """

    run: RunArgument = tyro.MISSING
    """Folder of the run."""
    n: int = 16
    """Number of samples, at least 1."""
    psi: float | None = None
    """Truncate codes towards their mean: 1 leaves them as sampled, 0 gives the mean. For models with a mapping network.
    Default: no truncation."""
    label: ClassArguments = ()
    """Sample these classes; a value is a class's name or number, as in class=3. Default: all classes at random."""
    noise: Literal["fixed", "off", "fresh"] = "fixed"
    """Noise of the decoder. fixed: the model's own, so that a code gives one image. off: none. fresh: sampled anew for each
    image."""
    temperature: float = 1.0
    """Divide the logits of codes by this, above 0; below 1, likelier codes are preferred. For models with a prior over
    codes."""
    top_k: int | None = None
    """Sample each code from only the k likeliest, at least 1. For models with a prior over discrete codes. Default: all."""
    top_p: float | None = None
    """Sample each code from the likeliest with this total probability, above 0 and at most 1. For models with a prior over
    discrete codes. Default: all."""
    keep_best: Annotated[str | None, tyro.conf.arg(metavar="M/N")] = None
    """Keep the M of every N samples of a class that a classifier is surest of, as in 1/4. The classifier is trained once on
    the run's own images and kept in its folder. For models that sample by class."""
    cutoff: Annotated[int | None, ADVANCED] = None
    """Truncate only this many layers, the coarsest first (8 in StyleGAN's figures). For models with layers. Default: all."""
    learn: Annotated[int, ADVANCED] = CLASSIFIER_IMAGES
    """Images to train the classifier of --keep-best on, at least 1."""


def main(words: Sequence[str]) -> int:
    options = parse(Sample, "sample", words)
    check_at_least(1, n=options.n, top_k=options.top_k, learn=options.learn)
    if options.cutoff is not None and options.psi is None:
        raise UserError("--cutoff is the number of layers that --psi truncates: give --psi, too")

    from anamorph.core.model import HasMapping, Samples, decode_in_chunks, require
    from anamorph.core.random import Seeded
    from anamorph.edit.reject import RejectionSampling
    from anamorph.edit.truncate import truncate
    from anamorph.figures.show import show_all

    model = require(options.load(options.run), Samples, "sampling")
    rejection = None if options.keep_best is None else RejectionSampling.parse(options.keep_best)
    labels = sampled_classes(options, model, options.n if rejection is None else rejection.candidates)
    with options.computing():
        codes = _best(model, options, rejection, labels) if rejection else _sample(model, options, options.n, labels)
        if options.psi is not None:
            mapping = require(model, HasMapping, "truncation")
            _check_cutoff(mapping, options.cutoff)
            codes = truncate(codes, mapping.w_mean, options.psi, options.cutoff)
        if options.noise == "fresh":
            images = model.decode(codes, Seeded(options.seed, "noise", device=options.device))
        else:
            images = decode_in_chunks(model, codes, options.noise)
    path = options.out or options.run / "sample.png"
    written = show_all(path, model.signal, images)
    emit(options.json, f"{written}: {options.n} samples, seed {options.seed}", **written.paths, n=options.n, seed=options.seed)
    return 0


def _sample(model: Samples, options: Sample, n: int, labels: dict[str, Tensor]) -> Codes:
    from anamorph.core.model import HasPrior, require
    from anamorph.core.prior import SamplingSettings
    from anamorph.core.random import Seeded

    settings = SamplingSettings(options.temperature, options.top_k, options.top_p)
    random = Seeded(options.seed, "samples", device=options.device)
    if not isinstance(model, HasPrior):
        if settings != SamplingSettings():
            require(model, HasPrior, "--temperature, --top-k or --top-p")
        return model.sample_codes(n, random, labels)
    with report_progress("sampling codes") as progress:
        return model.sample_codes(n, random, labels, settings, progress=progress)


def _best(model: Samples, options: Sample, rejection: RejectionSampling, labels: dict[str, Tensor]) -> Codes:
    """Return the samples that the classifier is surest of, of each group of samples of one class."""
    from anamorph.cli.factor_classifier import factor_classifier
    from anamorph.core.model import decode_in_chunks
    from anamorph.core.random import Seeded
    from anamorph.data.images import images_of
    from anamorph.run_data import open_data
    from anamorph.runs import settings_of
    from anamorph.training.folder import RunFolder

    if len(model.classes) != 1:
        raise UserError("--keep-best is for models that sample by class: train the prior with --model.num-classes")
    (label, classes), groups = next(iter(model.classes.items())), rejection.groups(options.n)
    if labels:
        targets = labels[label].repeat(groups)
    else:
        random_classes = Seeded(options.seed, "classes", device=options.device).integers(0, classes, (groups,))
        targets = random_classes.repeat_interleave(rejection.candidates)
    settings = settings_of(RunFolder(options.run))
    train, held = (images_of(open_data(settings, split)).shuffled() for split in ("train", "test"))
    classifier = factor_classifier(options.run, train, held, options.learn).to(options.device)
    codes = _sample(model, options, len(targets), {label: targets})
    probabilities = classifier.probabilities(decode_in_chunks(model, codes))[label]
    best = rejection.best(probabilities.gather(1, targets[:, None]).squeeze(1), options.n)
    correct = (probabilities.argmax(1) == targets).float()
    note(f"classified correctly: {correct.mean():.0%} of all samples, {correct[best].mean():.0%} of those kept")
    return {name: value[best] for name, value in codes.items()}


def _check_cutoff(model: HasMapping, cutoff: int | None) -> None:
    layers = model.spaces[0].shape[0] if model.spaces[0].layered else 0
    if cutoff is not None and not 0 <= cutoff <= layers:
        raise UserError(
            f"--cutoff is 0 to {layers}, the layers of this model; got {cutoff}"
            if layers
            else "--cutoff is for models with layers: leave it out, --psi truncates the whole code"
        )


def sampled_classes(options: Sample, model: Samples, n: int) -> dict[str, Tensor]:
    """Return the class of each of n samples by label, from --label name=value.

    Raises:
        UserError: for a label or a class that the model was not trained with.
    """
    import torch

    from anamorph.cli.classes import class_numbers

    numbers = class_numbers(options.run, options.label, model.classes, "the model does not sample by")
    return {name: torch.full((n,), number, device=options.device) for name, number in numbers.items()}
