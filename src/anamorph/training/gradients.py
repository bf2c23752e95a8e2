"""The gradients of one phase, and the optimizers that they go to."""

from __future__ import annotations

import torch
from torch import Tensor

from anamorph.core.optimizer import Optimizer
from anamorph.core.random import Random
from anamorph.core.recipe import LossOutput, Phase, Recipe
from anamorph.core.signal import Batch
from anamorph.core.stage import Stage
from anamorph.training.run import ComputeSettings

__all__ = ["Gradients", "compute_gradients", "compute_loss", "route"]

Gradients = list[Tensor | None]
"""One per parameter that a phase trains; None where its loss does not reach it."""


def compute_loss(phase: Phase, batch: Batch, stage: Stage, random: Random, compute: ComputeSettings) -> LossOutput:
    """Compute a phase's loss in the precision of the run."""
    device = torch.device(compute.device).type
    with torch.autocast(device, torch.bfloat16, enabled=compute.precision == "bfloat16"):
        return phase.loss(batch, stage, random)


def compute_gradients(
    phase: Phase, batch: Batch, stage: Stage, random: Random, compute: ComputeSettings
) -> tuple[LossOutput, Gradients]:
    """Compute a phase's loss, detached, and its gradients by what the phase trains; none, if it learns by commits alone."""
    output = compute_loss(phase, batch, stage, random, compute)
    if not phase.parameters:
        return output.detached(), []
    gradients = torch.autograd.grad(output.total(), phase.parameters, allow_unused=True)
    return output.detached(), list(gradients)


def route(recipe: Recipe, phase: Phase, gradients: Gradients) -> list[tuple[Optimizer, Gradients]]:
    """Return each optimizer that the phase steps, with the gradients of its own parameters, None where there is none."""
    routes = recipe.gradient_routes[phase.name]
    return [(optimizer, [None if i is None else gradients[i] for i in positions]) for optimizer, positions in routes]
