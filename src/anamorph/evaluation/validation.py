"""A run measured while it is trained: a few numbers, by a small budget, for its log; and by which of them it does best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from anamorph.core.errors import UserError, nearest
from anamorph.core.model import Encodes, HasNoise, LatentModel, Noise, Samples, chunk_size, level_of
from anamorph.core.progress import Progress, no_progress
from anamorph.core.random import Seeded
from anamorph.evaluation.evaluated_run import DownsampledSource, evaluation_data
from anamorph.evaluation.feature_cache import cached_features
from anamorph.evaluation.networks import FeatureNetworks, choose_networks
from anamorph.features.batches import quantise_8bit
from anamorph.features.feature_set import FeatureSet
from anamorph.features.network import FeatureNetwork
from anamorph.metrics.samples import fid, kid, neighbours
from anamorph.metrics.similarity import feature_distance, mse
from anamorph.runs import Training
from anamorph.training.session import Validator

__all__ = ["BETTER", "check_best", "validator_for"]

BUDGET = 1000
"""Images, and samples, of each kind."""
BETTER: Mapping[str, Literal["low", "high"]] = {
    "fid": "low",
    "kid": "low",
    "precision": "high",
    "recall": "high",
    "reconstruction_mse": "low",
    "feature_distance": "low",
}
OF_SAMPLES = ("fid", "kid", "precision", "recall")


def check_best(name: str) -> None:
    """Check the name of a metric. Raises: UserError if no metric that is measured during training has it."""
    if name and name not in BETTER:
        raise UserError(f"--best-metric {name!r} is not measured while training: {nearest(name, BETTER)}")


def validator_for(training: Training, progress: Progress = no_progress) -> Validator | None:
    """Return the validator of a run that is measured while it is trained; None for other runs.

    Raises: UserError if the best is wanted by what the model cannot have.
    """
    settings = training.settings
    if settings.evaluate_every is None:
        return None
    model = training.run.model
    draws, encodes = isinstance(model, Samples), isinstance(model, Encodes)
    best = settings.best_metric or ("fid" if draws else "reconstruction_mse")
    if (best in OF_SAMPLES and not draws) or (best not in OF_SAMPLES and not encodes):
        raise UserError(
            f"--best-metric {best} is not for {settings.model}, which {'has no encoder' if draws else 'draws nothing'}"
        )
    data = evaluation_data(settings, None, BUDGET)
    eyes = choose_networks("auto", data.train.source, data.held_out.source, progress).to(next(model.parameters()).device)
    measuring = _Validation(settings.seed, data.held_out, eyes)
    return Validator(settings.evaluate_every, measuring.take, measuring.key(best), BETTER[best])


class _Validation:
    """Of always the same held-out images and random numbers. Names are as in fid/mnist-classifier, so that each measure has
    curves of its own."""

    def __init__(self, seed: int, held: DownsampledSource, eyes: FeatureNetworks) -> None:
        self.seed, self.held, self.eyes = seed, held, eyes

    def key(self, name: str) -> str:
        network = {"fid": self.eyes.samples, "kid": self.eyes.samples, "feature_distance": self.eyes.distance}
        network |= {"precision": self.eyes.neighbours, "recall": self.eyes.neighbours}
        return f"{name}/{network[name].name if name in network else 'held out'}"

    @torch.no_grad()
    def take(self, model: LatentModel) -> dict[str, float]:
        """Numbers for the log; those that cannot be had of so few images, or of images alike, are left out."""
        held = DownsampledSource(self.held.source, level_of(model, self.held.source.signal))
        found: dict[str, float] = {}
        if isinstance(model, Samples):
            found |= self._of_samples(model, held)
        if isinstance(model, Encodes):
            found |= self._of_reconstructions(model, held)
        return {self.key(name): value for name, value in found.items()}

    def _of_samples(self, model: Samples, held: DownsampledSource) -> dict[str, float]:
        device = next(model.parameters()).device
        random, n = Seeded(self.seed, "watch", device=device), min(BUDGET, held.size)
        codes, step = model.sample_codes(n, random), chunk_size(model)
        noise: Noise = random if isinstance(model, HasNoise) else "fixed"
        parts = [model.decode({k: v[i : i + step] for k, v in codes.items()}, noise).float() for i in range(0, n, step)]
        images = quantise_8bit(torch.cat(parts))
        found: dict[str, float] = {}
        try:
            real, made = self._pair(self.eyes.samples, held, images)
            found["kid"] = kid(real, made, Seeded(self.seed, "watch kid"), subsets=10).value
            near = neighbours(*self._pair(self.eyes.neighbours, held, images))
            found |= {measure.name: measure.value for measure in near if measure.name in BETTER}
            found["fid"] = fid(real, made).value
        except UserError:  # early samples may all be alike, and few images have no FID
            return found
        return found

    def _pair(self, network: FeatureNetwork, held: DownsampledSource, images: Tensor) -> tuple[FeatureSet, FeatureSet]:
        real = cached_features(held, len(images), network, device=images.device)["features"]
        seen = torch.cat([network(part) for part in images.split(500)]).float().cpu()
        return tuple(FeatureSet(x, network.name, network.resizer, "") for x in (real, seen))  # type: ignore[return-value]

    def _of_reconstructions(self, model: Encodes, held: DownsampledSource) -> dict[str, float]:
        device, n, step = next(model.parameters()).device, min(BUDGET, held.size), chunk_size(model)
        errors, images = [], []
        for start in range(0, n, step):
            x = held.take(start, min(step, n - start)).signals.to(device)
            again = model.decode(model.encode(x)).float().clamp(-1, 1)
            errors.append(mse(again, x).cpu())
            images.append(quantise_8bit(again))
        network = self.eyes.distance
        real, made = self._pair(network, held, torch.cat(images))
        apart = float(feature_distance(made.values, real.values).mean())
        return {"reconstruction_mse": float(torch.cat(errors).mean()), "feature_distance": apart}
