"""What a critic and a generator minimise, given the scores [B] of real and of generated examples."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import softplus

from anamorph.core.random import Random
from anamorph.core.recipe import Outcome
from anamorph.losses.penalty import Score, r1, wasserstein_penalty

__all__ = ["Objective", "critic_loss", "generator_loss"]

Objective = Literal["logistic", "saturating", "wasserstein"]
"""logistic: the critic is a logistic classifier, and the generator maximises log D(fake), the heuristic of section 3 of
Goodfellow et al. 2014 (arXiv:1406.2661). saturating: the generator minimises log(1 - D(fake)), the game of its equation 1.
wasserstein: both play for the difference of mean scores (Arjovsky et al. 2017, arXiv:1701.07875, equation 2)."""


def critic_loss(
    score: Score, real: Tensor, fake: Tensor, objective: Objective, gamma: float, slope: float, random: Random
) -> Outcome:
    """The critic's terms on real and generated examples, each [B, ...], at the critic's own input.

    gamma: weight of R1 (logistic, saturating). slope: weight of the penalty that keeps slopes at one (wasserstein, which
    is unbounded without it). Watched: the mean scores.
    """
    terms: dict[str, Tensor] = {}
    if objective == "wasserstein":
        terms["slope"] = slope * wasserstein_penalty(score, real, fake, random.uniform(len(real)))
        real_score = score(real)
    elif gamma:
        real_score, penalty = r1(score, real)
        terms["r1"] = gamma / 2 * penalty
    else:
        real_score = score(real)
    fake_score = score(fake)
    if objective == "wasserstein":
        adversarial = fake_score.mean() - real_score.mean()
    else:
        adversarial = softplus(fake_score).mean() + softplus(-real_score).mean()
    return Outcome({"adversarial": adversarial, **terms}, {"real": real_score.mean(), "fake": fake_score.mean()})


def generator_loss(fake_score: Tensor, objective: Objective) -> Tensor:
    """What the generator minimises, a mean over the scores [B] of what it made."""
    if objective == "wasserstein":
        return -fake_score.mean()
    if objective == "saturating":
        return -softplus(fake_score).mean()
    return softplus(-fake_score).mean()
