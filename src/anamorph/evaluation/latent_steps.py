"""What is measured of a latent space, of likelihoods, and with known factors."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.model import (
    Encodes,
    HasImportanceWeights,
    HasLikelihood,
    HasMapping,
    HasPrior,
    LatentModel,
    Quantity,
    Samples,
    code_space,
    require,
)
from anamorph.core.random import Seeded
from anamorph.core.signal import Batch, Label, Signal
from anamorph.core.space import Codes
from anamorph.evaluation.evaluated_run import EvaluatedRun
from anamorph.evaluation.feature_cache import FeatureCache, as_bytes
from anamorph.evaluation.standard_errors import mean_error, of_share
from anamorph.evaluation.steps import SAMPLES, TRAINING, EvaluationStep, StepResults, needs_encoder, needs_samples
from anamorph.features.batches import quantise_8bit
from anamorph.metrics.disentanglement import (
    dci,
    factor_vae_score,
    mutual_information_gap,
    separated_attribute_predictability,
)
from anamorph.metrics.latent import active_units, code_usage, smoothness
from anamorph.metrics.likelihood import bits_per_value, code_cost, importance_bounds, likelihood
from anamorph.metrics.measure import Measure
from anamorph.metrics.path_length import PathLengthSettings
from anamorph.metrics.separability import separability
from anamorph.metrics.spaces import perceptual_path_length, probes

__all__ = ["latent_steps", "likelihood_steps"]

PAIRS, WAYS, STEPS = 2000, 24, 16
WAYS_SHOWN = 6
SCORED, WEIGHED, WEIGHTS = 1000, 500, 100
"""Images whose likelihood is found; those it is bounded of by importance weights, and how many weights of each."""
PARTS = 10
ALIVE = 0.01
MOST_NUMBERS = 512
"""Of a code, whose factors are looked for number by number."""


def latent_steps() -> list[EvaluationStep]:
    return [
        EvaluationStep("path_length", "latent space", _real_drawn, _path_length),
        EvaluationStep("separability", "latent space", _separable, _separability),
        EvaluationStep("smoothness", "latent space", _real, _smoothness),
        EvaluationStep("probes", "latent space", _taught, _probes),
        EvaluationStep("usage", "latent space", _discrete, _usage),
        EvaluationStep("active_units", "latent space", _inferred, _active_units),
        EvaluationStep("factors", "known factors", _factored, _factors),
    ]


def likelihood_steps() -> list[EvaluationStep]:
    return [
        EvaluationStep("likelihood", "likelihood", _scored, _likelihood),
        EvaluationStep("bounds", "likelihood", _bounded, _bounds),
        EvaluationStep("code_cost", "likelihood", _chosen, _code_cost),
    ]


def _real(subject: EvaluatedRun) -> str:
    space = code_space(subject.model)
    return "" if space.num_codes is None else "its codes are whole numbers: there is nothing between them"


def _real_drawn(subject: EvaluatedRun) -> str:
    return needs_samples(subject) or _real(subject)


def _separable(subject: EvaluatedRun) -> str:
    none = (
        ""
        if subject.networks.classifier is not None
        else f"the feature network {subject.networks.samples.name} knows no classes"
    )
    return _real_drawn(subject) or none


def _taught(subject: EvaluatedRun) -> str:
    there = any(len(label.classes) > 1 for label in subject.data.train.labels)
    return needs_encoder(subject) or _real(subject) or ("" if there else "the images have no labels of two classes or more")


def _discrete(subject: EvaluatedRun) -> str:
    there = any(space.num_codes is not None for space in subject.model.spaces if not space.optional)
    return needs_encoder(subject) or ("" if there else "its codes are real numbers")


def _inferred(subject: EvaluatedRun) -> str:
    bounds = isinstance(subject.model, HasImportanceWeights) and isinstance(subject.model, Encodes)
    return "" if bounds else "its codes have no law per image, which units could be active in"


def _factored(subject: EvaluatedRun) -> str:
    few = "" if len(_factor_labels(subject)) > 1 else "fewer than two factors of its images are known"
    return needs_encoder(subject) or _real(subject) or few


def _scored(subject: EvaluatedRun) -> str:
    return "" if isinstance(subject.model, HasLikelihood) else "the model has no likelihood of images"


def _bounded(subject: EvaluatedRun) -> str:
    return "" if isinstance(subject.model, HasImportanceWeights) else "the model has no importance weights"


def _chosen(subject: EvaluatedRun) -> str:
    return "" if isinstance(subject.model, HasPrior) else "the model has no law that draws codes one after another"


def _path_length(looks: FeatureCache) -> StepResults:
    """In w, and in z where a mapping lies between; of the Gaussian that is drawn, along great arcs."""
    subject, network = looks.subject, looks.subject.networks.distance
    spaces = ["w", "z"] if isinstance(subject.model, HasMapping) else ["w"] if isinstance(subject.model, HasPrior) else ["z"]
    n, device, found, curves = min(PAIRS, subject.n), subject.device, [], {}
    for space in spaces:
        spec, random = PathLengthSettings(space=space), Seeded(subject.seed, "path", space, device=device)  # type: ignore[arg-type]
        with looks.tell(f"path length in {space}") as progress:
            measure, result = perceptual_path_length(subject.model, network, n, random, spec, progress=progress)
        found.append(measure)
        curves[measure.name] = result.distances.tolist()
    return StepResults(found, curves=curves)


def _separability(looks: FeatureCache) -> StepResults:
    look, network = looks.samples, looks.subject.networks.samples
    attributes = [value for name, value in look.items() if name.startswith("chance.")]
    found = []
    for space in ("code", "z"):
        if space in look:
            with looks.tell(f"separability of {space}") as progress:
                result = separability(look[space].double(), attributes, progress=progress)
            name = f"separability_{'w' if space == 'code' else 'z'}" if "z" in look else "separability"
            n = {SAMPLES: len(look[space]), "kept": len(look[space]) // 2}
            found.append(Measure(name, result.score, "", "low", n, network.name, network.resizer))
    return StepResults(found)


def _smoothness(looks: FeatureCache) -> StepResults:
    """Between pairs of held-out images, or of samples, if there is no encoder."""
    subject, network = looks.subject, looks.subject.networks.distance
    codes = _ends(subject)
    a, b = ({name: code[side::2] for name, code in codes.items()} for side in (0, 1))
    ways: list[Tensor] = []

    def look(x: Tensor) -> Tensor:
        if len(ways) < WAYS_SHOWN:
            ways.append(as_bytes(x.float()[::2]))
        return network(quantise_8bit(x.float()))

    result = smoothness(subject.model, a, b, look, STEPS)
    looks.keep("ways", {"images": torch.stack(ways)})
    n, told = {"ways": len(result.straightness)}, {"features": network.name, "resizer": network.resizer}
    split = subject.data.split if isinstance(subject.model, Encodes) else SAMPLES
    found = [
        Measure(
            name,
            float(values.mean()),
            "",
            "high",
            n,
            split=split,
            error=mean_error(values),
            settings={"steps": STEPS},
            **told,  # type: ignore[arg-type]
        )
        for name, values in (("straightness", result.straightness), ("evenness", result.evenness))
    ]
    return StepResults(found)


@torch.no_grad()
def _ends(subject: EvaluatedRun) -> Codes:
    model, device = subject.model, subject.device
    if isinstance(model, Encodes):
        n = min(2 * WAYS, subject.n_real) // 2 * 2
        return model.encode(subject.data.held_out.take(0, n).signals.to(device))
    assert isinstance(model, Samples)
    return model.sample_codes(2 * WAYS, Seeded(subject.seed, "ways", device=device))


def _codes(looks: FeatureCache) -> tuple[Tensor, Tensor]:
    """Of training and of held-out images."""
    if "code" not in looks.reconstructions:
        raise UserError("its codes are too large to be kept")
    return looks.encoded["code"], looks.reconstructions["code"]


def _probes(looks: FeatureCache) -> StepResults:
    """Of every label; of several, each measure is named after its own."""
    train, test = _codes(looks)
    labels = [label for label in looks.subject.data.train.labels if len(label.classes) > 1]
    found: list[Measure] = []
    notes: list[str] = []
    for label in labels:
        known, wanted = looks.encoded[f"label.{label.name}"].long(), looks.reconstructions[f"label.{label.name}"].long()
        if len(known.unique()) < 2:
            notes.append(f"no probes of {label.name}: all images that were looked at are of one class")
            continue
        tail = "" if len(labels) == 1 else f"_{label.name}"
        with looks.tell(f"probes of {label.name}"):
            measures = probes(train, known, test, wanted, label.name, looks.subject.data.split)
        errors = [of_share(measure.value, len(test)) for measure in measures]
        found += [replace(m, name=m.name + tail, error=error) for m, error in zip(measures, errors, strict=True)]
    return StepResults(found, notes=tuple(notes))


def _usage(looks: FeatureCache) -> StepResults:
    found, curves = [], {}
    names = [name for name in looks.reconstructions if name.startswith("usage.")]
    for name in names:
        counts = looks.reconstructions[name].sum(0)
        tail = "" if len(names) == 1 else f"_{name.removeprefix('usage.')}"
        usage = code_usage(torch.arange(len(counts)).repeat_interleave(counts), len(counts))
        n = {"held-out images": looks.subject.n_real}
        settings = {"vocabulary": usage.num_codes}
        split = looks.subject.data.split
        found.append(Measure(f"codes_used{tail}", usage.used, "", "high", n, split=split, settings=settings))
        found.append(Measure(f"perplexity{tail}", usage.perplexity, "", "high", n, split=split, settings=settings))
        curves[f"usage{tail}"] = [float(count) for count in counts]
    return StepResults(found, curves=curves)


def _active_units(looks: FeatureCache) -> StepResults:
    _, test = _codes(looks)
    alive = active_units(test, ALIVE)
    n, settings = {"held-out images": len(test)}, {"of": len(alive), "variance above": ALIVE}
    found = Measure("active_units", float(alive.sum()), "", "neither", n, split=looks.subject.data.split, settings=settings)
    return StepResults([found], curves={"variance of units": test.var(0).sort(descending=True).values.tolist()})


def _factor_labels(subject: EvaluatedRun) -> list[Label]:
    return [label for label in subject.data.held_out.labels if len(label.classes) > 1]


def _factors(looks: FeatureCache) -> StepResults:
    codes, test = _codes(looks)
    if codes.shape[1] > MOST_NUMBERS:
        raise UserError(f"its codes are of {codes.shape[1]} numbers, and factors are looked for in {MOST_NUMBERS} at most")
    names = [label.name for label in _factor_labels(looks.subject)]
    both = [torch.stack([look[f"label.{name}"].long() for name in names], 1) for look in (looks.encoded, looks.reconstructions)]
    known, wanted = both
    subject = looks.subject
    forest = dci(codes, known, test, wanted)
    score = factor_vae_score(codes, known, Seeded(subject.seed, "votes"))
    values = {
        "mig": mutual_information_gap(codes, known),
        "dci_disentanglement": forest.disentanglement,
        "dci_completeness": forest.completeness,
        "dci_informativeness": forest.informativeness,
        "sap": separated_attribute_predictability(codes, known, test, wanted),
        "factor_vae": score,
    }
    n, settings = {TRAINING: len(codes), "held-out images": len(test)}, {"factors": " ".join(names)}
    return StepResults(
        [Measure(name, v, "", "high", n, split=subject.data.split, settings=settings) for name, v in values.items()]
    )


@dataclass(frozen=True)
class _Part:
    """Some of a source's images, as a likelihood is taken of them."""

    subject: EvaluatedRun
    start: int
    size: int

    @property
    def signal(self) -> Signal:
        return self.subject.data.held_out.signal

    @property
    def labels(self) -> tuple[Label, ...]:
        return self.subject.data.held_out.labels

    @property
    def fingerprint(self) -> str:
        return f"{self.subject.data.held_out.fingerprint}-{self.start}"

    def take(self, start: int, count: int, level: int = 0) -> Batch:
        batch = self.subject.data.held_out.take(self.start + start, count, level)
        random = Seeded(self.subject.seed, "binarise", self.start + start)
        return replace(batch, x=self.subject.model.likelihood_input(batch.signals, random))


def _parts(subject: EvaluatedRun, n: int) -> list[_Part]:
    """Ten parts of the first n images, from whose means an error is found."""
    size = max(1, min(n, subject.n_real) // PARTS)
    return [_Part(subject, i * size, size) for i in range(min(PARTS, subject.n_real))]


def _joined(looks: FeatureCache, parts: list[dict[str, float]], n: int, pixels: str, **settings: Any) -> StepResults:
    """Measures from their values in each of ten parts."""
    found = []
    for name in parts[0]:
        values = torch.tensor([part[name] for part in parts], dtype=torch.float64)
        bits = name.startswith("bits")
        unit = "bits per value" if bits else "nats"
        about = {"pixels": pixels, **settings}
        split = looks.subject.data.split
        error = mean_error(values) if len(values) > 1 else None
        better = "low" if bits or name.endswith(("_kl", "_cost")) else "high"
        better = "neither" if name.endswith(("_data", "_kl", "_prior")) else better
        found.append(
            Measure(name, float(values.mean()), unit, better, {"held-out images": n}, split=split, error=error, settings=about)  # type: ignore[arg-type]
        )
    return StepResults(found)


def _pixels(subject: EvaluatedRun, quantity: Quantity) -> str:
    """How the values are taken whose likelihood is measured, for the protocol of a measure."""
    x = subject.data.held_out.take(0, 1).signals
    if not torch.equal(subject.model.likelihood_input(x, Seeded(0)), x):
        return "binarised"
    return "8 bits" if quantity == "probability" else "density in [-1, 1]"


def _likelihood(looks: FeatureCache) -> StepResults:
    model, device, parts = looks.subject.model, looks.subject.device, []
    places = _parts(looks.subject, SCORED)
    with looks.tell("likelihood") as progress:
        for i, part in enumerate(places):
            found = likelihood(model, part, part.size, Seeded(looks.subject.seed, "dequantise", part.start, device=device))
            parts.append({_renamed(name): value for name, value in found.values.items()})
            progress(i + 1, len(places))
    return _joined(looks, parts, sum(p.size for p in places), _pixels(looks.subject, found.quantity))


def _renamed(name: str) -> str:
    """As in nats_bound_data, so that terms stand behind their sum."""
    for kind in ("exact", "bound"):
        if name.endswith(f"_{kind}"):
            start = "bits_per_value" if name.startswith("bits_per_value") else "nats"
            term = name.removeprefix(start).removesuffix(f"_{kind}")
            return f"{start}_{kind}{term}"
    return name


def _bounds(looks: FeatureCache) -> StepResults:
    model, parts = require(looks.subject.model, HasImportanceWeights, "bounds"), []
    places = _parts(looks.subject, WEIGHED)
    values = math.prod(model.signal.shape)
    with looks.tell("importance weights") as progress:
        for i, part in enumerate(places):
            batch = part.take(0, part.size).to(looks.subject.device)
            random = Seeded(looks.subject.seed, "weights", part.start, device=looks.subject.device)
            found = importance_bounds(model, batch.signals, WEIGHTS, random, batch.labels)
            with torch.no_grad():
                divergence = model.closed_form_kl(batch.signals, batch.labels)
            if divergence is not None:
                kl = float(divergence.mean())
                found |= {"elbo_data": found["elbo_nats"] + kl, "elbo_kl": kl}
            bound = found[f"iwae_{WEIGHTS}_nats"]
            found[f"bits_per_value_iwae_{WEIGHTS}"] = bits_per_value(bound, values, model.quantity)
            parts.append(found)
            progress(i + 1, len(places))
    return _joined(looks, parts, sum(p.size for p in places), _pixels(looks.subject, model.quantity), weights=WEIGHTS)


def _code_cost(looks: FeatureCache) -> StepResults:
    model, places = looks.subject.model, _parts(looks.subject, SCORED)
    with looks.tell("what codes cost") as progress:
        parts = []
        for i, part in enumerate(places):
            parts.append({"nats_per_code_cost": code_cost(model, part, part.size)})
            progress(i + 1, len(places))
    return _joined(looks, parts, sum(p.size for p in places), "as codes", codes=_kind(model))


def _kind(model: LatentModel) -> str:
    """What codes are: a density of real numbers is no probability of whole ones."""
    spaces = [space for space in model.spaces if not space.optional]
    counts = [f"{math.prod(s.shape)} {'real' if s.num_codes is None else f'of {s.num_codes}'}" for s in spaces]
    return " and ".join(counts)
