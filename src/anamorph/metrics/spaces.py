"""Measures of latent spaces that need a feature network, each with how it was taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.model import HasMapping, LatentModel, Samples, chunk_size, code_space, require
from anamorph.core.progress import Progress, no_progress
from anamorph.core.random import Random
from anamorph.core.space import Codes
from anamorph.features.network import ClassifierNetwork, FeatureNetwork, image_distance
from anamorph.metrics.measure import Measure
from anamorph.metrics.path_length import PathLength, PathLengthSettings, path_length
from anamorph.metrics.probes import (
    linear_svm_accuracy,
    logistic_accuracy,
    nearest_neighbour_accuracy,
    neighbours_accuracy,
)
from anamorph.metrics.separability import separability

__all__ = ["linear_separability", "perceptual_path_length", "probes"]

BATCH = 256


def perceptual_path_length(
    model: LatentModel,
    network: FeatureNetwork,
    n: int,
    random: Random,
    spec: PathLengthSettings | None = None,
    labels: Mapping[str, Tensor] | None = None,
    progress: Progress = no_progress,
) -> tuple[Measure, PathLength]:
    """Compute the path length by a network's distance of images, and all distances, to be looked at.

    Raises: UserError as `path_length`.
    """
    spec = spec or PathLengthSettings()
    found = path_length(model, partial(image_distance, network), n, random, spec, labels, progress)
    settings: dict[str, float | str] = {"epsilon": spec.epsilon, "crop": "face" if spec.crop else "none"}
    settings["percentiles"] = f"{spec.lowest:g} to {spec.highest:g}"
    name, counts = f"ppl_{spec.space}_{spec.sampling}", {"pairs": n}
    measure = Measure(name, found.mean, "", "low", counts, network.name, network.resizer, error=found.error, settings=settings)
    return measure, found


@torch.no_grad()
def linear_separability(
    model: LatentModel,
    network: FeatureNetwork,
    n: int,
    random: Random,
    keep: int | None = None,
    labels: Mapping[str, Tensor] | None = None,
    progress: Progress = no_progress,
) -> list[Measure]:
    """Measure the separability of z and of w, where a model maps one to the other (of layers, the last), or of the codes that
    it draws, by the classes that a network sees in n samples, each decoded once; the half that it is surest of (keep) are used.

    Raises: UserError as `separability`, or if the network knows no classes.
    """
    drawer = require(model, Samples, "a separability")
    if not isinstance(network, ClassifierNetwork):
        raise UserError(f"{network.name} knows no classes, which a separability needs: train a network on labelled images")
    spaces: dict[str, list[Tensor]] = {}
    seen: dict[str, list[Tensor]] = {}
    at_once = min(BATCH, chunk_size(model))
    for start in range(0, n, at_once):
        count = min(at_once, n - start)
        some = {name: value[start : start + count] for name, value in (labels or {}).items()}
        codes, found = _drawn(drawer, count, random, some or None)
        for name, code in found.items():
            spaces.setdefault(name, []).append(code.cpu())
        for name, p in network.probabilities(model.decode(codes, random)).items():
            seen.setdefault(name, []).append(p.cpu())
        progress(start + count, n)
    attributes, kept = [torch.cat(parts) for parts in seen.values()], keep or n // 2
    measures = []
    for name, parts in spaces.items():
        result = separability(torch.cat(parts), attributes, kept)
        counts = {"samples": n, "kept": kept}
        settings: dict[str, float | str] = {"attributes": ", ".join(seen)}
        if result.single:
            settings["of a single class"] = result.single
        measures.append(
            Measure(f"separability_{name}", result.score, "", "low", counts, network.name, network.resizer, settings=settings)
        )
    return measures


def _drawn(model: Samples, n: int, random: Random, labels: Mapping[str, Tensor] | None) -> tuple[Codes, Codes]:
    """Return codes to decode, and those [n, D] that are to be separated, by space."""
    space = code_space(model)
    if not isinstance(model, HasMapping):
        codes = model.sample_codes(n, random, labels)
        return codes, {space.name: codes[space.name].flatten(1)}
    z = random.normal(n, *model.z_space.shape).to(next(iter(model.w_mean.values())).device)
    codes = model.map(z, labels)
    w = codes[space.name][:, -1] if space.layered else codes[space.name]
    return codes, {model.z_space.name: z.flatten(1), space.name: w.flatten(1)}


def probes(
    codes: Tensor, classes: Tensor, test_codes: Tensor, test_classes: Tensor, label: str, split: str = ""
) -> list[Measure]:
    """Measure what a nearest neighbour, five of them, a linear support-vector machine and a logistic regression read of a
    label off codes [N, ...] and [M, ...].

    Raises: UserError for codes that are not finite, or fewer than two classes.
    """
    readers: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], float]] = {
        "1nn": nearest_neighbour_accuracy,
        "5nn": neighbours_accuracy,
        "svm": linear_svm_accuracy,
        "logistic": logistic_accuracy,
    }
    train, test = codes.flatten(1).float(), test_codes.flatten(1).float()
    n = {"train": len(train), "test": len(test)}
    return [
        Measure(
            f"{name}_accuracy", read(train, classes, test, test_classes), "", "high", n, split=split, settings={"label": label}
        )
        for name, read in readers.items()
    ]
