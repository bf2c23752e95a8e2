"""Losses of a critic and a generator, from the critic's logits [B] of real and generated examples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn.functional import softplus

from anamorph.core.random import Random
from anamorph.core.recipe import LossOutput
from anamorph.losses.penalty import Critic, Inputs, gradient_norm_penalty, inputs_of, wasserstein_penalty

__all__ = ["AdversarialLoss", "AdversarialSettings", "critic_loss", "generator_loss"]

AdversarialLoss = Literal["logistic", "saturating", "wasserstein"]
"""logistic: the critic is a logistic classifier, and the generator maximises log D(fake), the heuristic of section 3 of
Goodfellow et al. 2014 (arXiv:1406.2661). saturating: the generator minimises log(1 - D(fake)), as in its equation 1.
wasserstein: both play for the difference of mean logits (Arjovsky et al. 2017, arXiv:1701.07875, equation 2)."""


@dataclass(frozen=True)
class AdversarialSettings:
    """The loss of a critic and its penalties.

    Args:
        loss: logistic, saturating or wasserstein.
        r1: gamma, twice the weight of the squared gradient on real examples (not wasserstein).
        r2: the same on generated examples.
        gradient_penalty: lambda, the weight of the penalty that keeps gradients at norm 1 (wasserstein alone, which is
            unbounded without it).
        drift: weight of the squared logits of real examples (wasserstein; Karras et al. 2017, arXiv:1710.10196, appendix A.1).
    """

    loss: AdversarialLoss = "logistic"
    r1: float = 0.0
    r2: float = 0.0
    gradient_penalty: float = 10.0
    drift: float = 0.0

    @property
    def chance_loss(self) -> float | None:
        """The loss of a critic that guesses; None where a loss is not bounded."""
        return None if self.loss == "wasserstein" else 2 * math.log(2)


def critic_loss(critic: Critic, real: Inputs, fake: Inputs, settings: AdversarialSettings, random: Random) -> LossOutput:
    """Compute the critic's loss and penalties; the mean logits are its metrics.

    Args:
        critic: gives logits [B] of its inputs.
        real: real examples at the critic's own input, one tensor [B, ...] or several.
        fake: generated examples of the same shapes.
        settings: loss and penalties.
        random: for the points at which the Wasserstein penalty is taken.
    """
    wasserstein = settings.loss == "wasserstein"
    terms: dict[str, Tensor] = {}
    if wasserstein:
        mix = random.uniform(len(inputs_of(real)[0]))
        terms["slope"] = settings.gradient_penalty * wasserstein_penalty(critic, real, fake, mix)
    real_logits, real_norm = _logits(critic, real, settings.r1 > 0 and not wasserstein)
    fake_logits, fake_norm = _logits(critic, fake, settings.r2 > 0 and not wasserstein)
    if real_norm is not None:
        terms["r1"] = settings.r1 / 2 * real_norm
    if fake_norm is not None:
        terms["r2"] = settings.r2 / 2 * fake_norm
    if wasserstein and settings.drift:
        terms["drift"] = settings.drift * real_logits.square().mean()
    if wasserstein:
        adversarial = fake_logits.mean() - real_logits.mean()
    else:
        adversarial = softplus(fake_logits).mean() + softplus(-real_logits).mean()
    return LossOutput({"adversarial": adversarial, **terms}, {"real": real_logits.mean(), "fake": fake_logits.mean()})


def _logits(critic: Critic, x: Inputs, penalised: bool) -> tuple[Tensor, Tensor | None]:
    return gradient_norm_penalty(critic, x) if penalised else (critic(*inputs_of(x)), None)


def generator_loss(fake_logits: Tensor, loss: AdversarialLoss) -> Tensor:
    """Compute the generator's loss, a mean over the critic's logits [B] of generated examples."""
    if loss == "wasserstein":
        return -fake_logits.mean()
    if loss == "saturating":
        return -softplus(fake_logits).mean()
    return softplus(-fake_logits).mean()
