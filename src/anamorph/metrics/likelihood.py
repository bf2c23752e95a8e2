"""How likely held-out signals are: in nats, and in bits per value, with each part of a likelihood told apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anamorph.core.model import HasImportanceWeights, HasLikelihood, HasPrior, LatentModel, nats_per_code, require
from anamorph.core.random import Random
from anamorph.core.signal import Source

__all__ = ["code_cost", "importance_bounds", "likelihood"]

BATCH = 64
WEIGHTS = 1 << 13
"""Importance weights that are found at a time."""


@torch.no_grad()
def likelihood(model: LatentModel, source: Source, n: int, discrete: bool = True) -> dict[str, float]:
    """Mean nats and bits per value of n signals, and of each of the terms that they are the sum of.

    discrete: the model's law is of 8-bit values; if it is a density of numbers in [-1, 1], it is taken times the width of one
    of 256 values, 2 / 255.
    """
    scorer, sums = require(model, HasLikelihood, "a likelihood"), dict[str, float]()
    device, values = next(model.parameters()).device, math.prod(model.signal.shape)
    kind = ""
    for start in range(0, n, BATCH):
        batch = source.take(start, min(BATCH, n - start)).to(device)
        found = scorer.log_prob(batch.signals, batch.labels)
        kind = found.kind
        for name, nats in {"": found.nats, **{f"_{name}": t for name, t in found.terms.items()}}.items():
            sums[name] = sums.get(name, 0.0) + float(nats.sum())
    width = 0.0 if discrete else values * math.log(2 / 255)
    result = {f"nats{name}_{kind}": total / n for name, total in sums.items()}
    for name, total in sums.items():
        shift = width if name in ("", "_data") else 0.0
        result[f"bits_per_value{name}_{kind}"] = -(total / n + shift) / (values * math.log(2))
    return result


@torch.no_grad()
def importance_bounds(model: LatentModel, x: Tensor, k: int, random: Random) -> dict[str, float]:
    """The mean ELBO and the bound of k importance weights on log p(x) of signals x [B, ...], in nats.

    Burda et al. 2015, arXiv:1509.00519, equation 8; the weights are found a few at a time.
    """
    bounder = require(model, HasImportanceWeights, "importance weights")
    elbos, bounds = [], []
    for part in x.split(BATCH):
        at_once = max(1, WEIGHTS // len(part))
        found = [bounder.importance_log_weights(part, min(at_once, k - done), random) for done in range(0, k, at_once)]
        weights = torch.cat(found, 1)
        elbos.append(weights.mean(1))
        bounds.append(weights.logsumexp(1) - math.log(k))
    return {"elbo_nats": float(torch.cat(elbos).mean()), f"iwae_{k}_nats": float(torch.cat(bounds).mean())}


def code_cost(model: LatentModel, source: Source, n: int) -> float:
    """Mean nats per code of the codes of n signals, under the law that the model draws them from."""
    chooser, device = require(model, HasPrior, "the cost of codes"), next(model.parameters()).device
    parts = [source.take(i, min(BATCH, n - i)).to(device) for i in range(0, n, BATCH)]
    return float(torch.cat([nats_per_code(chooser, part) for part in parts]).mean())
