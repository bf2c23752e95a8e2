"""What a critic and a generator minimise, given the scores [B] of real and of generated examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn.functional import softplus

from anamorph.core.random import Random
from anamorph.core.recipe import LossOutput
from anamorph.losses.penalty import Critic, gradient_norm_penalty, wasserstein_penalty

__all__ = ["AdversarialLoss", "AdversarialSettings", "critic_loss", "generator_loss"]

AdversarialLoss = Literal["logistic", "saturating", "wasserstein"]
"""logistic: the critic is a logistic classifier, and the generator maximises log D(fake), the heuristic of section 3 of
Goodfellow et al. 2014 (arXiv:1406.2661). saturating: the generator minimises log(1 - D(fake)), the game of its equation 1.
wasserstein: both play for the difference of mean scores (Arjovsky et al. 2017, arXiv:1701.07875, equation 2)."""


@dataclass(frozen=True)
class AdversarialSettings:
    """What a critic plays for. r1, r2: weights of the squared slopes on real and on generated examples (each halved).
    slope: weight of the penalty that keeps slopes at one (wasserstein, which is unbounded without it). drift: weight of the
    squared scores of real examples (wasserstein; Karras et al. 2017, arXiv:1710.10196, appendix A.1)."""

    loss: AdversarialLoss = "logistic"
    r1: float = 0.0
    r2: float = 0.0
    gradient_penalty: float = 10.0
    drift: float = 0.0


def critic_loss(critic: Critic, real: Tensor, fake: Tensor, settings: AdversarialSettings, random: Random) -> LossOutput:
    """The critic's terms on real and generated examples, each [B, ...], at the critic's own input; watched: the mean scores."""
    wasserstein = settings.loss == "wasserstein"
    terms: dict[str, Tensor] = {}
    if wasserstein:
        terms["slope"] = settings.gradient_penalty * wasserstein_penalty(critic, real, fake, random.uniform(len(real)))
    real_score, real_slope = _scored(critic, real, settings.r1 > 0 and not wasserstein)
    fake_score, fake_slope = _scored(critic, fake, settings.r2 > 0 and not wasserstein)
    if real_slope is not None:
        terms["r1"] = settings.r1 / 2 * real_slope
    if fake_slope is not None:
        terms["r2"] = settings.r2 / 2 * fake_slope
    if wasserstein and settings.drift:
        terms["drift"] = settings.drift * real_score.square().mean()
    if wasserstein:
        adversarial = fake_score.mean() - real_score.mean()
    else:
        adversarial = softplus(fake_score).mean() + softplus(-real_score).mean()
    return LossOutput({"adversarial": adversarial, **terms}, {"real": real_score.mean(), "fake": fake_score.mean()})


def _scored(score: Critic, x: Tensor, penalised: bool) -> tuple[Tensor, Tensor | None]:
    return gradient_norm_penalty(score, x) if penalised else (score(x), None)


def generator_loss(fake_logits: Tensor, loss: AdversarialLoss) -> Tensor:
    """What the generator minimises, a mean over the scores [B] of what it made."""
    if loss == "wasserstein":
        return -fake_logits.mean()
    if loss == "saturating":
        return -softplus(fake_logits).mean()
    return softplus(-fake_logits).mean()
