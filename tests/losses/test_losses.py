"""Each loss is the formula of its docstring."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from anamorph.core.random import Seeded
from anamorph.losses.adversarial import AdversarialSettings, critic_loss, generator_loss
from anamorph.losses.log_prob import bernoulli_log_prob, gaussian_kl, gaussian_log_prob, iwae
from anamorph.losses.penalty import gradient_norm_penalty, wasserstein_penalty

REAL, FAKE = torch.tensor([[0.3, -1.0], [2.0, 0.5]]), torch.tensor([[-0.2, 0.1], [1.0, 1.0]])


def critic(x: Tensor) -> Tensor:
    return (x * torch.tensor([2.0, -1.0])).sum(1) + x.square().sum(1)


def test_logistic_losses_are_cross_entropies() -> None:
    outcome = critic_loss(critic, REAL, FAKE, AdversarialSettings(), Seeded(0))
    expected = -torch.log(torch.sigmoid(critic(REAL))).mean() - torch.log(1 - torch.sigmoid(critic(FAKE))).mean()
    torch.testing.assert_close(outcome.total(), expected)
    assert list(outcome.terms) == ["adversarial"]
    torch.testing.assert_close(outcome.metrics["real"], critic(REAL).mean())
    torch.testing.assert_close(generator_loss(critic(FAKE), "logistic"), -torch.log(torch.sigmoid(critic(FAKE))).mean())
    torch.testing.assert_close(generator_loss(critic(FAKE), "saturating"), torch.log(1 - torch.sigmoid(critic(FAKE))).mean())


def test_wasserstein_losses_are_differences_of_means() -> None:
    outcome = critic_loss(critic, REAL, FAKE, AdversarialSettings("wasserstein"), Seeded(0))
    torch.testing.assert_close(outcome.terms["adversarial"], critic(FAKE).mean() - critic(REAL).mean())
    assert list(outcome.terms) == ["adversarial", "slope"]
    torch.testing.assert_close(generator_loss(critic(FAKE), "wasserstein"), -critic(FAKE).mean())


def test_r1_is_the_mean_squared_gradient_on_real_examples() -> None:
    logits, penalty = gradient_norm_penalty(critic, REAL)
    slope = torch.tensor([2.0, -1.0]) + 2 * REAL
    torch.testing.assert_close(penalty, slope.square().sum(1).mean())
    torch.testing.assert_close(logits, critic(REAL))
    outcome = critic_loss(critic, REAL, FAKE, AdversarialSettings(r1=10.0), Seeded(0))
    torch.testing.assert_close(outcome.terms["r1"], 5 * penalty)


def test_r1_is_differentiable_in_the_critic() -> None:
    weight = torch.tensor([2.0, -1.0], requires_grad=True)
    _, penalty = gradient_norm_penalty(lambda x: x @ weight, REAL)
    (gradient,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(gradient, 2 * weight.detach())


def test_the_wasserstein_penalty_is_taken_between_real_and_fake() -> None:
    mix = torch.tensor([0.25, 1.0])
    x = mix[:, None] * REAL + (1 - mix[:, None]) * FAKE
    norm = (torch.tensor([2.0, -1.0]) + 2 * x).norm(dim=1)
    torch.testing.assert_close(wasserstein_penalty(critic, REAL, FAKE, mix), (norm - 1).square().mean())
    flat = wasserstein_penalty(lambda x: (x * 0).sum(1), REAL.requires_grad_(), FAKE, mix)
    torch.testing.assert_close(flat, torch.tensor(1.0), atol=1e-5, rtol=0)


def test_likelihoods_are_torchs() -> None:
    x, mean, log_var = torch.rand(4, 7), torch.randn(4, 7), torch.randn(4, 7)
    expected = Normal(mean, (log_var / 2).exp()).log_prob(x).sum(-1)
    torch.testing.assert_close(gaussian_log_prob(x, mean, log_var), expected)
    expected = kl_divergence(Normal(mean, (log_var / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(gaussian_kl(mean, log_var), expected)
    bits = (x > 0.5).float()
    torch.testing.assert_close(bernoulli_log_prob(bits, mean), Bernoulli(logits=mean).log_prob(bits).sum(-1))


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20))
def test_the_importance_weighted_bound_lies_between_mean_and_maximum(weights: list[float]) -> None:
    log_weights = torch.tensor([weights], dtype=torch.float64)
    bound = float(iwae(log_weights))
    assert float(log_weights.mean()) - 1e-9 <= bound <= float(log_weights.max()) + 1e-9
    assert bound == pytest.approx(math.log(sum(math.exp(w) for w in weights) / len(weights)), abs=1e-9)
