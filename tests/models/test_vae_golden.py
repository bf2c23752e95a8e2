"""The VAE against an independent computation of its definitions: likelihoods, KL, both bounds and their gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from anamorph.core.random import Replay
from anamorph.core.signal import Batch, Image
from anamorph.core.stage import Stage
from anamorph.losses.log_prob import gaussian_kl, iwae
from anamorph.models.autoencoders.vae import VAE, VAEConfig, recipe
from anamorph.nn.pixel_likelihood import LikelihoodConfig
from anamorph.training.gradients import compute_gradients
from anamorph.training.run import ComputeSettings
from reference import Case, committed

ATOL = 1e-4  # five times the suggested 2e-5
CASES = pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])


def load(likelihood: str, **settings: Any) -> tuple[Case, VAE, Tensor]:
    """The case, our model with its weights, and its x as signals in [-1, 1]."""
    case = committed(f"vae_{likelihood}")
    c = case.facts["config"]
    settings |= {"z_dim": c["z_dim"], "widths": (c["hidden"],), "likelihood": likelihood}
    model = VAE(
        Image(1, 4, c["x_dim"] // 4),
        VAEConfig(activation="tanh", likelihood_config=LikelihoodConfig(log_var_floor=None), **settings),
    )
    with torch.no_grad():
        for parameter, value in zip(_parameters(model), _values(case, "state."), strict=True):
            parameter.copy_(value)
    x = case.tensors["input.x"].view(-1, *model.signal.shape)
    return case, model, x * 2 - 1 if likelihood == "bernoulli" else x


def _parameters(model: VAE) -> list[torch.nn.Parameter]:
    return [*model.encoder.parameters(), *model.decoder.parameters()]


def _values(case: Case, prefix: str) -> list[Tensor]:
    """The case's parameters in our order: its two heads of the encoder, and of a gaussian decoder, are one layer here."""
    t = case.tensors
    heads = ["out", "out_logvar"] if f"{prefix}out_logvar.weight" in t else ["out"]
    groups = [["encoder.0"], ["fc_mu", "fc_logvar"], ["decoder.0"], heads]
    return [torch.cat([t[f"{prefix}{name}.{kind}"] for name in group]) for group in groups for kind in ("weight", "bias")]


@CASES
def test_posterior_likelihood_and_bounds_agree(likelihood: str) -> None:
    case, model, x = load(likelihood)
    mean, log_var = model.posterior(x)
    case.close(mean, "output.mu", ATOL)
    case.close(log_var, "output.logvar", ATOL)
    case.close(model.encode(x)["z"], "output.mu", ATOL)
    case.close(gaussian_kl(mean, log_var).sum(1), "output.kl_analytic", ATOL)
    z = case.tensors["output.z"].transpose(0, 1)
    case.close(model.log_likelihood_given(x, z).T, "output.log_px_given_z", ATOL)
    epsilon = case.tensors["input.eps"].transpose(0, 1)
    log_weights = model.importance_log_weights(x, epsilon.shape[1], Replay([epsilon]))
    case.close(log_weights.T, "output.log_w", ATOL)
    case.close(iwae(log_weights), "output.iwae_bound", ATOL)
    elbo = model.log_likelihood_given(x, z[:, :1]).squeeze(1) - gaussian_kl(mean, log_var).sum(1)
    case.close(elbo, "output.elbo_analytic_kl_sample0", ATOL)


@CASES
@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_losses_and_gradients_agree(likelihood: str, objective: str) -> None:
    samples = 1 if objective == "elbo" else committed(f"vae_{likelihood}").facts["config"]["K"]
    case, model, x = load(likelihood, bound=objective, importance_samples=samples)
    epsilon = case.tensors["input.eps"].transpose(0, 1)[:, :samples]
    (phase,) = recipe(model).phases
    outcome, gradients = compute_gradients(phase, Batch(x), Stage(0, len(x)), Replay([epsilon]), ComputeSettings())
    case.close(outcome.total(), f"output.loss_neg_{objective}_mean", ATOL)
    by_parameter = dict(zip(phase.parameters, gradients, strict=True))
    for parameter, expected in zip(_parameters(model), _values(case, f"output.grad_neg_{objective}."), strict=True):
        torch.testing.assert_close(by_parameter[parameter], expected, atol=ATOL, rtol=1e-4)
    kl = outcome.metrics["kl_per_dim"]
    torch.testing.assert_close(kl.sum(), case.tensors["output.kl_analytic"].mean(), atol=ATOL, rtol=0)
