"""What is measured of samples and reconstructions, and whether a model can have it measured. Each step is taken by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.model import Encodes, Samples
from anamorph.core.random import Seeded
from anamorph.evaluation.evaluated_run import EvaluatedRun
from anamorph.evaluation.feature_cache import FeatureCache, scales_of
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
    """What a step has found. data: what the same measure says of training images in place of the model's, where that can be
    said. curves: values to be shown, such as distances. notes: what is to be known."""

    measures: list[Measure]
    data: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluationStep:
    """Measures that are found together. group: samples, reconstructions, latent space, likelihood, or factors. lacks: why a
    subject cannot have it; empty if it can."""

    name: str
    group: str
    unsupported: Callable[[EvaluatedRun], str]
    run: Callable[[FeatureCache], StepResults]


def needs_samples(subject: EvaluatedRun) -> str:
    return "" if isinstance(subject.model, Samples) else "the model has no law to draw from"


def needs_encoder(subject: EvaluatedRun) -> str:
    return "" if isinstance(subject.model, Encodes) else "the model has no encoder"


def sample_steps() -> list[EvaluationStep]:
    """How samples compare with held-out images."""
    return [
        EvaluationStep("fid", "samples", needs_samples, _fid),
        EvaluationStep("kid", "samples", needs_samples, _kid),
        EvaluationStep("inception_score", "samples", _classes, _inception_score),
        EvaluationStep("neighbours", "samples", needs_samples, _neighbours),
        EvaluationStep("diversity", "samples", needs_samples, _diversity),
        EvaluationStep("memorisation", "samples", _apart, _memorisation),
    ]


def reconstruction_steps() -> list[EvaluationStep]:
    """How reconstructions compare with what was to be reconstructed."""
    return [
        EvaluationStep("errors", "reconstructions", needs_encoder, _errors),
        EvaluationStep("distance", "reconstructions", needs_encoder, _distance),
        EvaluationStep("reconstruction_fid", "reconstructions", needs_encoder, _reconstruction_fid),
        EvaluationStep("reciprocity", "reconstructions", _both, _reciprocity),
    ]


def _both(subject: EvaluatedRun) -> str:
    return needs_encoder(subject) or needs_samples(subject)


def _classes(subject: EvaluatedRun) -> str:
    none = (
        ""
        if subject.networks.classifier is not None
        else f"the feature network {subject.networks.samples.name} knows no classes"
    )
    return needs_samples(subject) or none


def _apart(subject: EvaluatedRun) -> str:
    told = "no images are held out" if subject.data.train.fingerprint == subject.data.held_out.fingerprint else ""
    return needs_samples(subject) or told


def _sides(looks: FeatureCache, network: FeatureNetwork) -> tuple[FeatureSet, FeatureSet, FeatureSet]:
    """Features of held-out images, of training images, and of samples."""
    place = looks.subject.networks.place(network)
    seen = (looks.real[place], looks.known[place], looks.samples[f"features.{place}"])
    split = looks.subject.data.split
    named = zip(seen, (split, TRAINING, SAMPLES), strict=True)
    real, known, made = (FeatureSet(x, network.name, network.resizer, what) for x, what in named)
    return real, known, made


def _some(x: FeatureSet, rows: Tensor) -> FeatureSet:
    return replace(x, values=x.values[rows])


def _fid_error(real: Tensor, generated: Tensor) -> float | None:
    """The standard error over the generated images; the real ones are held fixed. None, if there are too few."""
    law, parts = Moments.of(real), [Moments.of(generated[group::GROUPS]) for group in range(GROUPS)]
    if len(generated) - len(generated[::GROUPS]) <= generated.shape[1]:
        return None
    return jackknife([frechet_distance(law, _merged([p for p in parts if p is not left])) for left in parts])


def _merged(parts: Sequence[Moments]) -> Moments:
    whole = Moments(len(parts[0].mean))
    for part in parts:
        whole.merge(part)
    return whole


def _fid(looks: FeatureCache) -> StepResults:
    real, known, made = _sides(looks, looks.subject.networks.samples)
    found = replace(fid(real, made), error=_fid_error(real.values, made.values))
    return StepResults([found], {"fid": fid(real, known).value} if len(known) > known.values.shape[1] else {})


def _kid(looks: FeatureCache) -> StepResults:
    """Its error is that of the mean of ten parts which share no image: subsets that overlap would make it too small."""
    real, known, made = _sides(looks, looks.subject.networks.samples)
    seed = looks.subject.seed
    parts = [kernel_distance_all_pairs(real.values[i::GROUPS], made.values[i::GROUPS]) for i in range(GROUPS)]
    found = replace(kid(real, made, Seeded(seed, "kid")), error=1000 * mean_error(torch.tensor(parts)))
    return StepResults([found], {"kid": kid(real, known, Seeded(seed, "kid of data")).value})


def _inception_score(looks: FeatureCache) -> StepResults:
    network, found, data = looks.subject.networks.classifier, [], {}
    assert network is not None  # which was asked before
    real = looks.real_seen[looks.subject.networks.place(network)]
    labels = [name.removeprefix("chance.") for name in looks.samples if name.startswith("chance.")]
    for label in labels:
        chances, name = looks.samples[f"chance.{label}"], "inception_score" if len(labels) == 1 else f"inception_score_{label}"
        error = jackknifed(len(chances), lambda rows, p=chances: inception_score(p[rows], 1)[0])  # type: ignore[misc]
        value, n = inception_score(chances, 1)[0], {SAMPLES: len(chances)}
        told = {"features": network.name, "resizer": network.resizer, "error": error, "settings": {"splits": 1}}
        found.append(Measure(name, value, f"of {chances.shape[1]}", "high", n, **told))  # type: ignore[arg-type]
        data[name] = inception_score(real[f"chance.{label}"], 1)[0]
    return StepResults(found, data)


def _neighbours(looks: FeatureCache) -> StepResults:
    real, known, made = _sides(looks, looks.subject.networks.neighbours)
    with looks.tell("precision and recall") as progress:
        found, parts = neighbours(real, made, progress=progress), []
        for i, rows in enumerate(without(len(made))):
            parts.append(neighbours(real, _some(made, rows)))
            progress(i + 1, GROUPS)
    data = {m.name: m.value for m in neighbours(real, known)} if len(known) > 5 else {}
    errors = [jackknife([part[i].value for part in parts]) for i in range(len(found))]
    return StepResults([replace(m, error=error) for m, error in zip(found, errors, strict=True)], data)


def _diversity(looks: FeatureCache) -> StepResults:
    """As a share of that of held-out images."""
    real, known, made = _sides(looks, looks.subject.networks.neighbours)
    scale = mean_distance(real.values)
    error = jackknifed(len(made), lambda rows: mean_distance(made.values[rows])) / scale
    found = diversity(made)
    found = replace(
        found, value=found.value / scale, error=error, split=real.images, settings={"as a share of": "held-out images"}
    )
    return StepResults([found], {"diversity": mean_distance(known.values) / scale})


def _memorisation(looks: FeatureCache) -> StepResults:
    real, known, made = _sides(looks, looks.subject.networks.neighbours)
    measure, found = copies(known, real, made)
    curves = {
        "samples": found.generated.tolist(),
        "held out": found.held.tolist(),
        "nearest": found.nearest.tolist(),
    }
    close = f"samples lie closer to training images than held-out ones do ({found.closer:.0%} of pairs): look for copies"
    return StepResults([measure], {"copies": 0.5}, curves, (close,) if found.closer > 0.5 and found.z > 3 else ())


def _of_images(
    looks: FeatureCache, name: str, values: Tensor, better: Better, network: FeatureNetwork | None = None
) -> Measure:
    """The mean over reconstructed images of a value [n] of each."""
    seen = (network.name, network.resizer) if network else ("", "")
    n, split = {"held-out images": len(values)}, looks.subject.data.split
    return Measure(name, float(values.double().mean()), "", better, n, *seen, split, mean_error(values))


def _errors(looks: FeatureCache) -> StepResults:
    look, values = looks.reconstructions, looks.subject.data.held_out.signal.num_values
    squared = _of_images(looks, "reconstruction_mse", look["mse"], "low")
    decibel = replace(
        squared,
        name="reconstruction_psnr",
        value=10 * math.log10(4 / max(squared.value, 1e-12)),
        unit="dB of the mean error",
        better="high",
        error=(squared.error or 0) / max(squared.value, 1e-12) * 10 / math.log(10),
    )
    found = [squared, decibel, _of_images(looks, "image_error", (look["mse"] * values).sqrt(), "low")]
    curves = {"reconstruction_mse": look["mse"].tolist()}
    scales = scales_of(min(looks.subject.model.signal.shape[1:]))
    for part, name in (("ssim", "ssim"), ("ms_ssim", "ms_ssim" if scales == 5 else f"ms_ssim_{scales}_scales")):
        if part in look:
            found.append(_of_images(looks, f"reconstruction_{name}", look[part], "high"))
            curves[f"reconstruction_{name}"] = look[part].tolist()
    return StepResults(found, curves=curves)


def _distance(looks: FeatureCache) -> StepResults:
    network, look = looks.subject.networks.distance, looks.reconstructions
    if isinstance(network, DistanceNetwork):
        values, name = look["distance"], "lpips"
    else:
        place = looks.subject.networks.place(network)
        values, name = feature_distance(look[f"features.{place}"], looks.real[place]), "feature_distance"
    return StepResults([_of_images(looks, name, values, "low", network)], curves={name: values.tolist()})


def _reconstruction_fid(looks: FeatureCache) -> StepResults:
    network = looks.subject.networks.samples
    place = looks.subject.networks.place(network)
    seen = (looks.real[place], looks.reconstructions[f"features.{place}"])
    real, made = (FeatureSet(x, network.name, network.resizer, looks.subject.data.split) for x in seen)
    found = fid(real, made)
    n = {"held-out images": len(real), "reconstructions": len(made)}
    return StepResults([replace(found, name="fid_of_reconstructions", n=n, error=_fid_error(real.values, made.values))])


def _codes_of(subject: EvaluatedRun) -> dict[str, float | str]:
    """What discrete codes are: those of other vocabularies are not found as easily."""
    spaces = [space for space in subject.model.spaces if space.num_codes is not None and not space.optional]
    return {"codes": " and ".join(f"{math.prod(space.shape)} of {space.num_codes}" for space in spaces)}


def _reciprocity(looks: FeatureCache) -> StepResults:
    look, subject = looks.samples, looks.subject
    n = {SAMPLES: subject.n}
    if "code_found" in look:
        share = float(look["code_found"].mean())
        return StepResults(
            [Measure("codes_found", share, "", "high", n, error=mean_error(look["code_found"]), settings=_codes_of(subject))]
        )
    if "code" not in look:
        raise UserError("its codes are too large to be kept")
    code = look["code"].double()
    spread = float((code - code.mean(0)).norm(dim=1).mean())
    missed = look["code_error"]
    if not spread > 0 or not bool(torch.isfinite(missed).all()):
        raise UserError("its codes are constant, or not finite: there is nothing to find again")
    mean, error = float(missed.double().mean()), mean_error(missed)
    return StepResults(
        [
            Measure("latent_error", mean, "", "low", n, error=error, settings={"numbers": code.shape[1]}),
            Measure("latent_error_relative", mean / spread, "", "low", n, error=error / spread),
        ]
    )
