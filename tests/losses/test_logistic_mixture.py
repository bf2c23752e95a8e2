"""The mixture of discretised logistics against the reference implementation."""

from __future__ import annotations

import pytest
import torch

from anamorph.losses.log_prob import logistic_mixture_log_prob, logistic_mixture_sample
from reference import committed

CASES = pytest.mark.parametrize("name", ["logistic_mixture_gray", "logistic_mixture_rgb"])
ATOL = 5e-4  # five times the suggested 1e-4, of values up to thousands of nats


@CASES
def test_likelihoods_and_gradients_agree(name: str) -> None:
    case = committed(name)
    t = case.tensors
    logits = t["input.logits"].clone().requires_grad_()
    sampled = logistic_mixture_log_prob(t["input.x"], logits)
    case.close(-sampled, "output.nll_per_pixel", ATOL, rtol=1e-4)
    case.close(-sampled.sum((1, 2)), "output.nll_nats", ATOL, rtol=1e-4)
    (-sampled.sum()).backward()
    assert logits.grad is not None
    case.close(logits.grad, "output.grad_logits", ATOL, rtol=1e-3)


@CASES
def test_samples_agree(name: str) -> None:
    case = committed(name)
    t = case.tensors
    component_uniforms, value_uniforms = t["input.u_mixture"], t["input.u_logistic"]
    sampled = logistic_mixture_sample(t["input.logits"], case.facts["config"]["channels"], component_uniforms, value_uniforms)
    case.close(sampled, "output.sample", ATOL)


def test_all_values_have_a_mass_of_one_together() -> None:
    """Where no bin is so unlikely that its density is taken."""
    values = (torch.arange(256) / 127.5 - 1).view(-1, 1, 1, 1)
    logits = torch.randn(1, 15, 1, 1, generator=torch.Generator().manual_seed(0)).double()
    logits[:, 10:] = -1.0  # scales
    total = logistic_mixture_log_prob(values.double(), logits.expand(256, -1, -1, -1)).exp().sum()
    torch.testing.assert_close(total, torch.ones((), dtype=torch.float64), atol=1e-6, rtol=0)
