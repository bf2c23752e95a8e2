"""The steps of an evaluation: measures of samples and reconstructions, and which models can have them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.model import Encodes, Samples, code_spaces
from anamorph.core.random import Seeded
from anamorph.evaluation.evaluated_run import EvaluatedRun
from anamorph.evaluation.feature_cache import CacheEntry, FeatureCache, scales_of
from anamorph.evaluation.standard_errors import GROUPS, jackknife, jackknifed, mean_error, without
from anamorph.features.feature_set import FeatureSet
from anamorph.features.moments import Moments
from anamorph.features.network import DistanceNetwork, FeatureNetwork
from anamorph.metrics.frechet import frechet_distance
from anamorph.metrics.inception_score import inception_score
from anamorph.metrics.kernel import kernel_distance_all_pairs
from anamorph.metrics.measure import Better, Measure
from anamorph.metrics.neighbours import mean_distance
from anamorph.metrics.samples import copies, diversity, fid, kid, neighbours
from anamorph.metrics.similarity import feature_distance

__all__ = [
    "SAMPLES",
    "TRAINING",
    "EvaluationStep",
    "StepResults",
    "needs_encoder",
    "needs_samples",
    "reconstruction_steps",
    "sample_steps",
]

SAMPLES, TRAINING = "samples", "training images"


@dataclass(frozen=True)
class StepResults:
    """The results of a step.

    Args:
        measures: the results.
        data: by measure, its value for training images in place of the model's, where there is one.
        curves: values for charts, such as distances, by name.
        notes: messages for the user.
    """

    measures: list[Measure]
    data: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluationStep:
    """Measures that are computed together.

    Args:
        name: unique among steps.
        group: samples, reconstructions, latent space, likelihood, or train factors.
        unsupported: returns why a run cannot have these measures; empty if it can.
        run: computes them.
    """

    name: str
    group: str
    unsupported: Callable[[EvaluatedRun], str]
    run: Callable[[FeatureCache], StepResults]


def needs_samples(subject: EvaluatedRun) -> str:
    """Say why a run has no samples; empty if it has."""
    return "" if isinstance(subject.model, Samples) else "the model does not sample"


def needs_encoder(subject: EvaluatedRun) -> str:
    """Say why a run has no reconstructions; empty if it has."""
    return "" if isinstance(subject.model, Encodes) else "the model has no encoder"


def sample_steps() -> list[EvaluationStep]:
    """Return the steps that compare samples with held-out images."""
    return [
        EvaluationStep("fid", "samples", needs_samples, _fid),
        EvaluationStep("kid", "samples", needs_samples, _kid),
        EvaluationStep("inception_score", "samples", _needs_classifier, _inception_score),
        EvaluationStep("neighbours", "samples", needs_samples, _neighbours),
        EvaluationStep("diversity", "samples", needs_samples, _diversity),
        EvaluationStep("memorisation", "samples", _needs_held_out, _memorisation),
    ]


def reconstruction_steps() -> list[EvaluationStep]:
    """Return the steps that compare reconstructions with their originals."""
    return [
        EvaluationStep("errors", "reconstructions", needs_encoder, _errors),
        EvaluationStep("distance", "reconstructions", needs_encoder, _distance),
        EvaluationStep("reconstruction_fid", "reconstructions", needs_encoder, _reconstruction_fid),
        EvaluationStep("reciprocity", "reconstructions", _needs_both, _reciprocity),
    ]


def _needs_both(subject: EvaluatedRun) -> str:
    return needs_encoder(subject) or needs_samples(subject)


def _needs_classifier(subject: EvaluatedRun) -> str:
    none = (
        ""
        if subject.networks.classifier is not None
        else f"the feature network {subject.networks.samples.name} is no classifier"
    )
    return needs_samples(subject) or none


def _needs_held_out(subject: EvaluatedRun) -> str:
    reason = "no images are held out" if subject.data.train.fingerprint == subject.data.held_out.fingerprint else ""
    return needs_samples(subject) or reason


def _feature_sets(cache: FeatureCache, network: FeatureNetwork) -> tuple[FeatureSet, FeatureSet, FeatureSet]:
    """Return the features of held-out images, of training images, and of samples."""
    index = cache.subject.networks.index(network)
    features = (cache.real_features[index], cache.train_features[index], cache.samples[f"features.{index}"])
    split = cache.subject.data.split
    named = zip(features, (split, TRAINING, SAMPLES), strict=True)
    real, train, generated = (FeatureSet(x, network.name, network.resizer, what) for x, what in named)
    return real, train, generated


def _subset(x: FeatureSet, rows: Tensor) -> FeatureSet:
    return replace(x, values=x.values[rows])


def _fid_error(real: Tensor, generated: Tensor) -> float | None:
    """Compute the standard error over generated images, with the real ones fixed; None if there are too few."""
    moments, parts = Moments.of(real), [Moments.of(generated[group::GROUPS]) for group in range(GROUPS)]
    if len(generated) - len(generated[::GROUPS]) <= generated.shape[1]:
        return None
    return jackknife([frechet_distance(moments, _merged([p for p in parts if p is not left])) for left in parts])


def _merged(parts: Sequence[Moments]) -> Moments:
    whole = Moments(len(parts[0].mean))
    for part in parts:
        whole.merge(part)
    return whole


def _fid(cache: FeatureCache) -> StepResults:
    real, train, generated = _feature_sets(cache, cache.subject.networks.samples)
    result = replace(fid(real, generated), error=_fid_error(real.values, generated.values))
    return StepResults([result], {"fid": fid(real, train).value} if len(train) > train.values.shape[1] else {})


def _kid(cache: FeatureCache) -> StepResults:
    """Compute KID; its error is of the mean of ten disjoint parts, since overlapping subsets would understate it."""
    real, train, generated = _feature_sets(cache, cache.subject.networks.samples)
    seed = cache.subject.seed
    parts = [kernel_distance_all_pairs(real.values[i::GROUPS], generated.values[i::GROUPS]) for i in range(GROUPS)]
    result = replace(kid(real, generated, Seeded(seed, "kid")), error=1000 * mean_error(torch.tensor(parts)))
    return StepResults([result], {"kid": kid(real, train, Seeded(seed, "kid of data")).value})


def _inception_score(cache: FeatureCache) -> StepResults:
    network, result, data = cache.subject.networks.classifier, [], {}
    assert network is not None  # as `_needs_classifier` has checked
    real = cache.real_outputs[cache.subject.networks.index(network)]
    labels = [name.removeprefix("chance.") for name in cache.samples if name.startswith("chance.")]
    for label in labels:
        chances, name = cache.samples[f"chance.{label}"], "inception_score" if len(labels) == 1 else f"inception_score_{label}"
        error = jackknifed(len(chances), lambda rows, p=chances: inception_score(p[rows], 1)[0])  # type: ignore[misc]
        value, n = inception_score(chances, 1)[0], {SAMPLES: len(chances)}
        options = {"features": network.name, "resizer": network.resizer, "error": error, "settings": {"splits": 1}}
        result.append(Measure(name, value, f"of {chances.shape[1]}", "high", n, **options))  # type: ignore[arg-type]
        data[name] = inception_score(real[f"chance.{label}"], 1)[0]
    return StepResults(result, data)


def _neighbours(cache: FeatureCache) -> StepResults:
    real, train, generated = _feature_sets(cache, cache.subject.networks.neighbours)
    with cache.progress("precision and recall") as progress:
        result, parts = neighbours(real, generated, progress=progress), []
        for i, rows in enumerate(without(len(generated))):
            parts.append(neighbours(real, _subset(generated, rows)))
            progress(i + 1, GROUPS)
    data = {m.name: m.value for m in neighbours(real, train)} if len(train) > 5 else {}
    errors = [jackknife([part[i].value for part in parts]) for i in range(len(result))]
    return StepResults([replace(m, error=error) for m, error in zip(result, errors, strict=True)], data)


def _diversity(cache: FeatureCache) -> StepResults:
    """Compute the diversity as a share of that of held-out images."""
    real, train, generated = _feature_sets(cache, cache.subject.networks.neighbours)
    scale = mean_distance(real.values)
    error = jackknifed(len(generated), lambda rows: mean_distance(generated.values[rows])) / scale
    result = diversity(generated)
    result = replace(
        result, value=result.value / scale, error=error, split=real.images, settings={"as a share of": "held-out images"}
    )
    return StepResults([result], {"diversity": mean_distance(train.values) / scale})


def _memorisation(cache: FeatureCache) -> StepResults:
    real, train, generated = _feature_sets(cache, cache.subject.networks.neighbours)
    measure, result = copies(train, real, generated)
    curves = {
        "samples": result.generated.tolist(),
        "held out": result.held.tolist(),
        "nearest": result.nearest.tolist(),
    }
    close = f"samples lie closer to training images than held-out ones do ({result.closer:.0%} of pairs): look for copies"
    return StepResults([measure], {"copies": 0.5}, curves, (close,) if result.closer > 0.5 and result.z > 3 else ())


def _mean_over_images(
    cache: FeatureCache, name: str, values: Tensor, better: Better, network: FeatureNetwork | None = None
) -> Measure:
    """Average a value [n] over reconstructed images."""
    used = (network.name, network.resizer) if network else ("", "")
    n, split = {"held-out images": len(values)}, cache.subject.data.split
    return Measure(name, float(values.double().mean()), "", better, n, *used, split, mean_error(values))


def _errors(cache: FeatureCache) -> StepResults:
    entry, num_values = cache.reconstructions, cache.subject.data.held_out.signal.num_values
    squared = _mean_over_images(cache, "reconstruction_mse", entry["mse"], "low")
    decibel = replace(
        squared,
        name="reconstruction_psnr",
        value=10 * math.log10(4 / max(squared.value, 1e-12)),
        unit="dB of the mean error",
        better="high",
        error=(squared.error or 0) / max(squared.value, 1e-12) * 10 / math.log(10),
    )
    result = [squared, decibel, _mean_over_images(cache, "image_error", (entry["mse"] * num_values).sqrt(), "low")]
    curves = {"reconstruction_mse": entry["mse"].tolist()}
    scales = scales_of(min(cache.subject.model.signal.shape[1:]))
    for part, name in (("ssim", "ssim"), ("ms_ssim", "ms_ssim" if scales == 5 else f"ms_ssim_{scales}_scales")):
        if part in entry:
            result.append(_mean_over_images(cache, f"reconstruction_{name}", entry[part], "high"))
            curves[f"reconstruction_{name}"] = entry[part].tolist()
    return StepResults(result, curves=curves)


def _distance(cache: FeatureCache) -> StepResults:
    network, entry = cache.subject.networks.distance, cache.reconstructions
    if isinstance(network, DistanceNetwork):
        values, name = entry["distance"], "lpips"
    else:
        index = cache.subject.networks.index(network)
        values, name = feature_distance(entry[f"features.{index}"], cache.real_features[index]), "feature_distance"
    return StepResults([_mean_over_images(cache, name, values, "low", network)], curves={name: values.tolist()})


def _reconstruction_fid(cache: FeatureCache) -> StepResults:
    network = cache.subject.networks.samples
    index = cache.subject.networks.index(network)
    features = (cache.real_features[index], cache.reconstructions[f"features.{index}"])
    real, generated = (FeatureSet(x, network.name, network.resizer, cache.subject.data.split) for x in features)
    result = fid(real, generated)
    n = {"held-out images": len(real), "reconstructions": len(generated)}
    return StepResults([replace(result, name="fid_of_reconstructions", n=n, error=_fid_error(real.values, generated.values))])


def _codes_of(subject: EvaluatedRun) -> dict[str, float | str]:
    """Describe the discrete codes: with more classes, fewer are result by chance."""
    spaces = [space for space in code_spaces(subject.model) if not space.is_real]
    return {"codes": " and ".join(f"{math.prod(space.shape)} of {space.num_codes}" for space in spaces)}


def _reciprocity(cache: FeatureCache) -> StepResults:
    """Compare sampled codes with those that the encoder finds in their images, per kind of space."""
    entry, subject = cache.samples, cache.subject
    n, measures = {SAMPLES: subject.n}, []
    if "code_found" in entry:
        share, error = float(entry["code_found"].mean()), mean_error(entry["code_found"])
        measures.append(Measure("codes_found", share, "", "high", n, error=error, settings=_codes_of(subject)))
    if "code_error" in entry:
        measures += _latent_errors(entry, n)
    return StepResults(measures)


def _latent_errors(entry: CacheEntry, n: dict[str, int]) -> list[Measure]:
    if "code" not in entry:
        raise UserError("its codes are too large")
    code, errors = entry["code"].double(), entry["code_error"]
    spread = float((code - code.mean(0)).norm(dim=1).mean())
    if not spread > 0 or not bool(torch.isfinite(errors).all()):
        raise UserError("its codes are constant, or not finite")
    mean, error = float(errors.double().mean()), mean_error(errors)
    return [
        Measure("latent_error", mean, "", "low", n, error=error, settings={"numbers": code.shape[1]}),
        Measure("latent_error_relative", mean / spread, "", "low", n, error=error / spread),
    ]
