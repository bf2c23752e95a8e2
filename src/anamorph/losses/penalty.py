"""Penalties on the gradient of a critic, taken at its own input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from anamorph.core.precision import at_least_float32

__all__ = ["Critic", "Inputs", "gradient_norm_penalty", "inputs_of", "wasserstein_penalty"]

Inputs = Tensor | tuple[Tensor, ...]
"""What a critic reads of a batch: signals [B, ...], or several tensors, such as signals and codes."""

Critic = Callable[..., Tensor]
"""Logits [B] of its inputs."""


def inputs_of(x: Inputs) -> tuple[Tensor, ...]:
    """Return the tensors that a critic reads."""
    return x if isinstance(x, tuple) else (x,)


def _squared_gradient(critic: Critic, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Logits [B] and the squared norm [B] of their gradient by all inputs together; both can be differentiated further."""
    inputs = tuple(x.detach().requires_grad_() for x in inputs)
    logits = critic(*inputs)
    gradients = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    squares = [at_least_float32(gradient).square().flatten(1).sum(1) for gradient in gradients]
    return logits, torch.stack(squares).sum(0) if len(squares) > 1 else squares[0]


def gradient_norm_penalty(critic: Critic, x: Inputs) -> tuple[Tensor, Tensor]:
    """Return the logits [B] of examples, and the mean of |d logit / d x|^2 over them.

    On real examples this is R1, on generated ones R2 (Mescheder et al. 2018, arXiv:1801.04406, equation 9), to be weighted by
    gamma / 2.
    """
    logits, squared = _squared_gradient(critic, inputs_of(x))
    return logits, squared.mean()


def wasserstein_penalty(critic: Critic, real: Inputs, fake: Inputs, mix: Tensor) -> Tensor:
    """Return the mean of (|d logit / d x| - 1)^2 at x = mix * real + (1 - mix) * fake.

    Gulrajani et al. 2017 (arXiv:1704.00028, equation 3), to be weighted by lambda.

    Args:
        critic: gives logits [B].
        real: real inputs.
        fake: generated inputs of the same shapes.
        mix: one number in [0, 1) for each example [B].
    """
    between = tuple(
        f.lerp(r, mix.view(-1, *[1] * (r.dim() - 1))) for r, f in zip(inputs_of(real), inputs_of(fake), strict=True)
    )
    _, squared = _squared_gradient(critic, between)
    # The root has an infinite slope at zero; a critic that is flat somewhere must not spoil the step.
    return ((squared + 1e-12).sqrt() - 1).square().mean()
