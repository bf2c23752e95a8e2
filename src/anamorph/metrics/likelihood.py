"""Likelihoods of held-out signals: in nats, and in bits per value, with the terms that they are the sum of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from anamorph.core.model import (
    HasImportanceWeights,
    HasLikelihood,
    HasPrior,
    Labels,
    LatentModel,
    LogLikelihood,
    Quantity,
    device_of,
    nats_per_code,
    require,
)
from anamorph.core.random import Random, Seeded
from anamorph.core.signal import Source

__all__ = ["MeanLikelihood", "bits_per_value", "code_cost", "importance_bounds", "likelihood"]

BATCH = 64
WEIGHTS = 1 << 13
"""Importance weights that are computed at once."""


@dataclass(frozen=True)
class MeanLikelihood:
    """Means over signals, by name ("nats_exact", "bits_per_value_bound_data"), and what they are a likelihood of."""

    values: dict[str, float]
    quantity: Quantity


@torch.no_grad()
def likelihood(model: LatentModel, source: Source, n: int, random: Random | None = None) -> MeanLikelihood:
    """Compute mean nats and bits per value of n signals, and of each of the terms that they are the sum of.

    Args:
        model: has a likelihood of signals.
        source: signals, as `likelihood_input` gives them, with the labels that a conditional model is given.
        n: number of signals.
        random: for dequantisation noise and for bounds that are estimated; None: always the same numbers.

    Raises:
        UnsupportedOperation: if the model has no likelihood.
    """
    known, sums = require(model, HasLikelihood, "a likelihood"), dict[str, float]()
    device, values = device_of(model), math.prod(model.signal.shape)
    random = random or Seeded(0, "likelihood", device=device)
    result: LogLikelihood | None = None
    for start in range(0, n, BATCH):
        batch = source.take(start, min(BATCH, n - start)).to(device)
        result = known.log_prob(batch.signals, batch.labels, random)
        for name, nats in {"": result.nats, **{f"_{name}": t for name, t in result.terms.items()}}.items():
            sums[name] = sums.get(name, 0.0) + float(nats.sum())
    assert result is not None
    means = {f"nats{name}_{result.kind}": total / n for name, total in sums.items()}
    for name, total in sums.items():
        quantity = result.quantity if name in ("", "_data") else "probability"
        means[f"bits_per_value{name}_{result.kind}"] = bits_per_value(total / n, values, quantity)
    return MeanLikelihood(means, result.quantity)


def bits_per_value(nats: float, values: int, quantity: Quantity) -> float:
    """Convert a log-likelihood in nats of a signal to bits for each of its values.

    A density of numbers in [-1, 1] is multiplied by 2 / 255, the interval that each of 256 values stands for.
    """
    width = math.log(2 / 255) if quantity == "density" else 0.0
    return -(nats / values + width) / math.log(2)


@torch.no_grad()
def importance_bounds(model: LatentModel, x: Tensor, k: int, random: Random, labels: Labels | None = None) -> dict[str, float]:
    """Compute the mean ELBO and the bound of k importance weights on log p(x) of signals x [B, ...], in nats.

    Burda et al. 2015, arXiv:1509.00519, equation 8; the weights are computed a few at a time.

    Raises:
        UnsupportedOperation: if the model has no importance weights.
    """
    known = require(model, HasImportanceWeights, "importance weights")
    elbos, bounds = [], []
    for start in range(0, len(x), BATCH):
        chunk = x[start : start + BATCH]
        classes = {name: value[start : start + BATCH] for name, value in (labels or {}).items()}
        most = max(1, WEIGHTS // len(chunk))
        parts = [known.importance_log_weights(chunk, min(most, k - done), random, classes) for done in range(0, k, most)]
        weights = torch.cat(parts, 1)
        elbos.append(weights.mean(1))
        bounds.append(weights.logsumexp(1) - math.log(k))
    return {"elbo_nats": float(torch.cat(elbos).mean()), f"iwae_{k}_nats": float(torch.cat(bounds).mean())}


def code_cost(model: LatentModel, source: Source, n: int) -> float:
    """Compute the mean nats per code of the codes of n signals, under the model's prior.

    Raises:
        UnsupportedOperation: if the model has no prior over its codes.
    """
    known, device = require(model, HasPrior, "the cost of codes"), device_of(model)
    batches = [source.take(i, min(BATCH, n - i)).to(device) for i in range(0, n, BATCH)]
    return float(torch.cat([nats_per_code(known, batch) for batch in batches]).mean())
