"""What a critic and a generator minimise, given the scores [B] of real and of generated examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn.functional import softplus

from anamorph.core.random import Random
from anamorph.core.recipe import Outcome
from anamorph.losses.penalty import Score, slope_penalty, wasserstein_penalty

__all__ = ["Game", "Objective", "critic_loss", "generator_loss"]

Objective = Literal["logistic", "saturating", "wasserstein"]
"""logistic: the critic is a logistic classifier, and the generator maximises log D(fake), the heuristic of section 3 of
Goodfellow et al. 2014 (arXiv:1406.2661). saturating: the generator minimises log(1 - D(fake)), the game of its equation 1.
wasserstein: both play for the difference of mean scores (Arjovsky et al. 2017, arXiv:1701.07875, equation 2)."""


@dataclass(frozen=True)
class Game:
    """What a critic plays for. r1, r2: weights of the squared slopes on real and on generated examples (each halved).
    slope: weight of the penalty that keeps slopes at one (wasserstein, which is unbounded without it). drift: weight of the
    squared scores of real examples (wasserstein; Karras et al. 2017, arXiv:1710.10196, appendix A.1)."""

    objective: Objective = "logistic"
    r1: float = 0.0
    r2: float = 0.0
    slope: float = 10.0
    drift: float = 0.0


def critic_loss(score: Score, real: Tensor, fake: Tensor, game: Game, random: Random) -> Outcome:
    """The critic's terms on real and generated examples, each [B, ...], at the critic's own input; watched: the mean scores."""
    wasserstein = game.objective == "wasserstein"
    terms: dict[str, Tensor] = {}
    if wasserstein:
        terms["slope"] = game.slope * wasserstein_penalty(score, real, fake, random.uniform(len(real)))
    real_score, real_slope = _scored(score, real, game.r1 > 0 and not wasserstein)
    fake_score, fake_slope = _scored(score, fake, game.r2 > 0 and not wasserstein)
    if real_slope is not None:
        terms["r1"] = game.r1 / 2 * real_slope
    if fake_slope is not None:
        terms["r2"] = game.r2 / 2 * fake_slope
    if wasserstein and game.drift:
        terms["drift"] = game.drift * real_score.square().mean()
    if wasserstein:
        adversarial = fake_score.mean() - real_score.mean()
    else:
        adversarial = softplus(fake_score).mean() + softplus(-real_score).mean()
    return Outcome({"adversarial": adversarial, **terms}, {"real": real_score.mean(), "fake": fake_score.mean()})


def _scored(score: Score, x: Tensor, penalised: bool) -> tuple[Tensor, Tensor | None]:
    return slope_penalty(score, x) if penalised else (score(x), None)


def generator_loss(fake_score: Tensor, objective: Objective) -> Tensor:
    """What the generator minimises, a mean over the scores [B] of what it made."""
    if objective == "wasserstein":
        return -fake_score.mean()
    if objective == "saturating":
        return -softplus(fake_score).mean()
    return softplus(-fake_score).mean()
