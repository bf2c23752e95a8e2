"""Penalties on the slope of a critic, taken at its own input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from anamorph.core.precision import at_least_float32

__all__ = ["Critic", "gradient_norm_penalty", "wasserstein_penalty"]

Critic = Callable[[Tensor], Tensor]


def _slope(score: Critic, x: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [B] at x, and their squared gradient norm [B] with respect to x; both can be differentiated further."""
    x = x.detach().requires_grad_()
    scores = score(x)
    (gradient,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return scores, at_least_float32(gradient).square().flatten(1).sum(1)


def gradient_norm_penalty(critic: Critic, x: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [B] of examples, and the mean of |d score / d x|^2 over them.

    On real examples R1, on generated ones R2 (Mescheder et al. 2018, arXiv:1801.04406, equation 9), to be weighted by
    gamma / 2.
    """
    scores, squared = _slope(critic, x)
    return scores, squared.mean()


def wasserstein_penalty(critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """The mean of (|d score / d x| - 1)^2 at x = mix * real + (1 - mix) * fake, mix [B] in [0, 1).

    Gulrajani et al. 2017 (arXiv:1704.00028, equation 3), to be weighted by lambda.
    """
    x = fake.lerp(real, mix.view(-1, *[1] * (real.dim() - 1)))
    _, squared = _slope(critic, x)
    # The root has an infinite slope at zero; a critic that is flat somewhere must not poison the step.
    return ((squared + 1e-12).sqrt() - 1).square().mean()
