"""Measures of latent spaces, of likelihoods, and with known factors."""

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
    code_spaces,
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

PAIRS, PATHS, STEPS = 2000, 24, 16
PATHS_SHOWN = 6
LIKELIHOOD_IMAGES, BOUND_IMAGES, WEIGHTS = 1000, 500, 100
"""Images whose likelihood is computed; images whose bound is; importance weights per image."""
NUM_PARTS = 10
ACTIVE_VARIANCE = 0.01
MAX_CODE_VALUES = 512
"""Codes of more values are not searched for factors, value by value."""


def latent_steps() -> list[EvaluationStep]:
    return [
        EvaluationStep("path_length", "latent space", _samples_needs_real, _path_length),
        EvaluationStep("separability", "latent space", _needs_classifier, _separability),
        EvaluationStep("smoothness", "latent space", _needs_real, _smoothness),
        EvaluationStep("probes", "latent space", _needs_labels, _probes),
        EvaluationStep("usage", "latent space", _needs_discrete, _usage),
        EvaluationStep("active_units", "latent space", _needs_posterior, _active_units),
        EvaluationStep("factors", "known factors", _needs_factors, _factors),
    ]


def likelihood_steps() -> list[EvaluationStep]:
    return [
        EvaluationStep("likelihood", "likelihood", _needs_likelihood, _likelihood),
        EvaluationStep("bounds", "likelihood", _needs_weights, _bounds),
        EvaluationStep("code_cost", "likelihood", _needs_prior, _code_cost),
    ]


def _needs_real(subject: EvaluatedRun) -> str:
    return "" if code_space(subject.model).is_real else "its codes are discrete: there is nothing between them"


def _samples_needs_real(subject: EvaluatedRun) -> str:
    return needs_samples(subject) or _needs_real(subject)


def _needs_classifier(subject: EvaluatedRun) -> str:
    none = (
        ""
        if subject.networks.classifier is not None
        else f"the feature network {subject.networks.samples.name} is no classifier"
    )
    return _samples_needs_real(subject) or none


def _needs_labels(subject: EvaluatedRun) -> str:
    labelled = any(len(label.classes) > 1 for label in subject.data.train.labels)
    return (
        needs_encoder(subject)
        or _needs_real(subject)
        or ("" if labelled else "the images have no labels of two classes or more")
    )


def _needs_discrete(subject: EvaluatedRun) -> str:
    discrete = any(not space.is_real for space in code_spaces(subject.model))
    return needs_encoder(subject) or ("" if discrete else "its codes are real numbers")


def _needs_posterior(subject: EvaluatedRun) -> str:
    bounds = isinstance(subject.model, HasImportanceWeights) and isinstance(subject.model, Encodes)
    return "" if bounds else "it has no posterior per image, whose units could be active"


def _needs_factors(subject: EvaluatedRun) -> str:
    few = "" if len(_factor_labels(subject)) > 1 else "fewer than two factors of its images are known"
    return needs_encoder(subject) or _needs_real(subject) or few


def _needs_likelihood(subject: EvaluatedRun) -> str:
    return "" if isinstance(subject.model, HasLikelihood) else "the model has no likelihood of images"


def _needs_weights(subject: EvaluatedRun) -> str:
    return "" if isinstance(subject.model, HasImportanceWeights) else "the model has no importance weights"


def _needs_prior(subject: EvaluatedRun) -> str:
    return "" if isinstance(subject.model, HasPrior) else "the model has no prior that samples codes"


def _path_length(cache: FeatureCache) -> StepResults:
    """Measure in w, and in z (along great arcs) if the model maps one to the other."""
    subject, network = cache.subject, cache.subject.networks.distance
    spaces = ["w", "z"] if isinstance(subject.model, HasMapping) else ["w"] if isinstance(subject.model, HasPrior) else ["z"]
    n, device, results, curves = min(PAIRS, subject.n), subject.device, [], {}
    for space in spaces:
        spec, random = PathLengthSettings(space=space), Seeded(subject.seed, "path", space, device=device)  # type: ignore[arg-type]
        with cache.progress(f"path length in {space}") as progress:
            measure, result = perceptual_path_length(subject.model, network, n, random, spec, progress=progress)
        results.append(measure)
        curves[measure.name] = result.distances.tolist()
    return StepResults(results, curves=curves)


def _separability(cache: FeatureCache) -> StepResults:
    samples, network = cache.samples, cache.subject.networks.samples
    attributes = [value for name, value in samples.items() if name.startswith("chance.")]
    results = []
    for space in ("code", "z"):
        if space in samples:
            with cache.progress(f"separability of {space}") as progress:
                result = separability(samples[space].double(), attributes, progress=progress)
            name = f"separability_{'w' if space == 'code' else 'z'}" if "z" in samples else "separability"
            n = {SAMPLES: len(samples[space]), "kept": len(samples[space]) // 2}
            results.append(Measure(name, result.score, "", "low", n, network.name, network.resizer))
    return StepResults(results)


def _smoothness(cache: FeatureCache) -> StepResults:
    """Measure between the codes of pairs of held-out images, or of samples if there is no encoder."""
    subject, network = cache.subject, cache.subject.networks.distance
    codes = _ends(subject)
    a, b = ({name: code[side::2] for name, code in codes.items()} for side in (0, 1))
    paths: list[Tensor] = []

    def features(x: Tensor) -> Tensor:
        if len(paths) < PATHS_SHOWN:
            paths.append(as_bytes(x.float()[::2]))
        return network(quantise_8bit(x.float()))

    result = smoothness(subject.model, a, b, features, STEPS)
    cache.save("ways", {"images": torch.stack(paths)})
    n, network_used = {"ways": len(result.straightness)}, {"features": network.name, "resizer": network.resizer}
    split = subject.data.split if isinstance(subject.model, Encodes) else SAMPLES
    results = [
        Measure(
            name,
            float(values.mean()),
            "",
            "high",
            n,
            split=split,
            error=mean_error(values),
            settings={"steps": STEPS},
            **network_used,  # type: ignore[arg-type]
        )
        for name, values in (("straightness", result.straightness), ("evenness", result.evenness))
    ]
    return StepResults(results)


@torch.no_grad()
def _ends(subject: EvaluatedRun) -> Codes:
    model, device = subject.model, subject.device
    if isinstance(model, Encodes):
        n = min(2 * PATHS, subject.n_real) // 2 * 2
        return model.encode(subject.data.held_out.take(0, n).signals.to(device))
    assert isinstance(model, Samples)
    return model.sample_codes(2 * PATHS, Seeded(subject.seed, "ways", device=device))


def _codes(cache: FeatureCache) -> tuple[Tensor, Tensor]:
    """Return the codes of training and of held-out images."""
    if "code" not in cache.reconstructions:
        raise UserError("its codes are too large")
    return cache.encoded["code"], cache.reconstructions["code"]


def _probes(cache: FeatureCache) -> StepResults:
    """Probe every label. If there are several, the names of measures end in the label's."""
    train, test = _codes(cache)
    labels = [label for label in cache.subject.data.train.labels if len(label.classes) > 1]
    results: list[Measure] = []
    notes: list[str] = []
    for label in labels:
        classes, test_classes = cache.encoded[f"label.{label.name}"].long(), cache.reconstructions[f"label.{label.name}"].long()
        if len(classes.unique()) < 2:
            notes.append(f"no probes of {label.name}: all encoded images are of one class")
            continue
        tail = "" if len(labels) == 1 else f"_{label.name}"
        with cache.progress(f"probes of {label.name}"):
            measures = probes(train, classes, test, test_classes, label.name, cache.subject.data.split)
        errors = [of_share(measure.value, len(test)) for measure in measures]
        results += [replace(m, name=m.name + tail, error=error) for m, error in zip(measures, errors, strict=True)]
    return StepResults(results, notes=tuple(notes))


def _usage(cache: FeatureCache) -> StepResults:
    results, curves = [], {}
    names = [name for name in cache.reconstructions if name.startswith("usage.")]
    for name in names:
        counts = cache.reconstructions[name].sum(0)
        tail = "" if len(names) == 1 else f"_{name.removeprefix('usage.')}"
        usage = code_usage(torch.arange(len(counts)).repeat_interleave(counts), len(counts))
        n = {"held-out images": cache.subject.n_real}
        settings = {"vocabulary": usage.num_codes}
        split = cache.subject.data.split
        results.append(Measure(f"codes_used{tail}", usage.used, "", "high", n, split=split, settings=settings))
        results.append(Measure(f"perplexity{tail}", usage.perplexity, "", "high", n, split=split, settings=settings))
        curves[f"usage{tail}"] = [float(count) for count in counts]
    return StepResults(results, curves=curves)


def _active_units(cache: FeatureCache) -> StepResults:
    _, test = _codes(cache)
    active = active_units(test, ACTIVE_VARIANCE)
    n, settings = {"held-out images": len(test)}, {"of": len(active), "variance above": ACTIVE_VARIANCE}
    results = Measure("active_units", float(active.sum()), "", "neither", n, split=cache.subject.data.split, settings=settings)
    return StepResults([results], curves={"variance of units": test.var(0).sort(descending=True).values.tolist()})


def _factor_labels(subject: EvaluatedRun) -> list[Label]:
    return [label for label in subject.data.held_out.labels if len(label.classes) > 1]


def _factors(cache: FeatureCache) -> StepResults:
    codes, test = _codes(cache)
    if codes.shape[1] > MAX_CODE_VALUES:
        raise UserError(f"its codes have {codes.shape[1]} values, and factors are sought in at most {MAX_CODE_VALUES}")
    names = [label.name for label in _factor_labels(cache.subject)]
    both = [
        torch.stack([entry[f"label.{name}"].long() for name in names], 1) for entry in (cache.encoded, cache.reconstructions)
    ]
    factors, test_factors = both
    subject = cache.subject
    forest = dci(codes, factors, test, test_factors)
    score = factor_vae_score(codes, factors, Seeded(subject.seed, "votes"))
    values = {
        "mig": mutual_information_gap(codes, factors),
        "dci_disentanglement": forest.disentanglement,
        "dci_completeness": forest.completeness,
        "dci_informativeness": forest.informativeness,
        "sap": separated_attribute_predictability(codes, factors, test, test_factors),
        "factor_vae": score,
    }
    n, settings = {TRAINING: len(codes), "held-out images": len(test)}, {"factors": " ".join(names)}
    return StepResults(
        [Measure(name, v, "", "high", n, split=subject.data.split, settings=settings) for name, v in values.items()]
    )


@dataclass(frozen=True)
class _Part:
    """A part of the held-out images, as input of a likelihood."""

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
    """Split the first n images into ten parts, from whose means the standard error is computed."""
    size = max(1, min(n, subject.n_real) // NUM_PARTS)
    return [_Part(subject, i * size, size) for i in range(min(NUM_PARTS, subject.n_real))]


def _joined(cache: FeatureCache, parts: list[dict[str, float]], n: int, pixels: str, **settings: Any) -> StepResults:
    """Combine the values of ten parts to measures with standard errors."""
    results = []
    for name in parts[0]:
        values = torch.tensor([part[name] for part in parts], dtype=torch.float64)
        bits = name.startswith("bits")
        unit = "bits per value" if bits else "nats"
        about = {"pixels": pixels, **settings}
        split = cache.subject.data.split
        error = mean_error(values) if len(values) > 1 else None
        better = "low" if bits or name.endswith(("_kl", "_cost")) else "high"
        better = "neither" if name.endswith(("_data", "_kl", "_prior")) else better
        results.append(
            Measure(name, float(values.mean()), unit, better, {"held-out images": n}, split=split, error=error, settings=about)  # type: ignore[arg-type]
        )
    return StepResults(results)


def _pixels(subject: EvaluatedRun, quantity: Quantity) -> str:
    """Say for the protocol what the likelihood is of: binarised pixels, 8-bit values, or a density."""
    x = subject.data.held_out.take(0, 1).signals
    if not torch.equal(subject.model.likelihood_input(x, Seeded(0)), x):
        return "binarised"
    return "8 bits" if quantity == "probability" else "density in [-1, 1]"


def _likelihood(cache: FeatureCache) -> StepResults:
    model, device, parts = cache.subject.model, cache.subject.device, []
    chunks = _parts(cache.subject, LIKELIHOOD_IMAGES)
    with cache.progress("likelihood") as progress:
        for i, part in enumerate(chunks):
            results = likelihood(model, part, part.size, Seeded(cache.subject.seed, "dequantise", part.start, device=device))
            parts.append({_renamed(name): value for name, value in results.values.items()})
            progress(i + 1, len(chunks))
    return _joined(cache, parts, sum(p.size for p in chunks), _pixels(cache.subject, results.quantity))


def _renamed(name: str) -> str:
    """Move a term's name behind the kind, as in nats_bound_data, so that terms sort after their sum."""
    for kind in ("exact", "bound"):
        if name.endswith(f"_{kind}"):
            start = "bits_per_value" if name.startswith("bits_per_value") else "nats"
            term = name.removeprefix(start).removesuffix(f"_{kind}")
            return f"{start}_{kind}{term}"
    return name


def _bounds(cache: FeatureCache) -> StepResults:
    model, parts = require(cache.subject.model, HasImportanceWeights, "bounds"), []
    chunks = _parts(cache.subject, BOUND_IMAGES)
    values = math.prod(model.signal.shape)
    with cache.progress("importance weights") as progress:
        for i, part in enumerate(chunks):
            batch = part.take(0, part.size).to(cache.subject.device)
            random = Seeded(cache.subject.seed, "weights", part.start, device=cache.subject.device)
            results = importance_bounds(model, batch.signals, WEIGHTS, random, batch.labels)
            with torch.no_grad():
                divergence = model.closed_form_kl(batch.signals, batch.labels)
            if divergence is not None:
                kl = float(divergence.mean())
                results |= {"elbo_data": results["elbo_nats"] + kl, "elbo_kl": kl}
            bound = results[f"iwae_{WEIGHTS}_nats"]
            results[f"bits_per_value_iwae_{WEIGHTS}"] = bits_per_value(bound, values, model.quantity)
            parts.append(results)
            progress(i + 1, len(chunks))
    return _joined(cache, parts, sum(p.size for p in chunks), _pixels(cache.subject, model.quantity), weights=WEIGHTS)


def _code_cost(cache: FeatureCache) -> StepResults:
    model, chunks = cache.subject.model, _parts(cache.subject, LIKELIHOOD_IMAGES)
    with cache.progress("cost of codes") as progress:
        parts = []
        for i, part in enumerate(chunks):
            parts.append({"nats_per_code_cost": code_cost(model, part, part.size)})
            progress(i + 1, len(chunks))
    return _joined(cache, parts, sum(p.size for p in chunks), "as codes", codes=_kind(model))


def _kind(model: LatentModel) -> str:
    """Describe the codes: a density over real codes cannot be compared with a probability of discrete ones."""
    spaces = code_spaces(model)
    counts = [f"{math.prod(s.shape)} {'real' if s.num_codes is None else f'of {s.num_codes}'}" for s in spaces]
    return " and ".join(counts)
