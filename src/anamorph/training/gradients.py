"""The gradients of one phase, and which optimizer they go to."""

from __future__ import annotations

import torch
from torch import Tensor

from anamorph.core.optimizer import Adam
from anamorph.core.random import Random
from anamorph.core.recipe import LossOutput, Phase, Recipe
from anamorph.core.signal import Batch
from anamorph.core.stage import Stage
from anamorph.training.run import ComputeSettings

__all__ = ["Gradients", "compute_gradients", "compute_loss", "route"]

Gradients = list[Tensor | None]
"""One per parameter that a phase trains; None where its loss does not reach it."""


def compute_loss(phase: Phase, batch: Batch, stage: Stage, random: Random, compute: ComputeSettings) -> LossOutput:
    """The phase's loss in the machine's precision."""
    device = torch.device(compute.device).type
    with torch.autocast(device, torch.bfloat16, enabled=compute.precision == "bfloat16"):
        return phase.loss(batch, stage, random)


def compute_gradients(
    phase: Phase, batch: Batch, stage: Stage, random: Random, compute: ComputeSettings
) -> tuple[LossOutput, Gradients]:
    """The phase's loss, detached, and its gradients. Only what the phase trains is differentiated; nothing, if it learns by
    its commits alone."""
    outcome = compute_loss(phase, batch, stage, random, compute)
    if not phase.parameters:
        return outcome.detached(), []
    found = torch.autograd.grad(outcome.total(), phase.parameters, allow_unused=True)
    return outcome.detached(), list(found)


def route(recipe: Recipe, phase: Phase, found: Gradients) -> list[tuple[Adam, Gradients]]:
    """Each optimizer that the phase steps, with the gradients of its own parameters, None where there is none."""
    return [(adam, [None if i is None else found[i] for i in places]) for adam, places in recipe.gradient_routes[phase.name]]
