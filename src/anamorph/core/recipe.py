"""How a model is trained, as data: which losses move which modules, with which optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from anamorph.core.optimizer import MissingGradient, Optimizer
from anamorph.core.random import Random
from anamorph.core.signal import Batch
from anamorph.core.stage import Stage

__all__ = ["Loss", "LossOutput", "Phase", "PhaseRole", "Recipe"]


@dataclass
class LossOutput:
    """What a loss returns.

    Args:
        terms: weighted terms; their sum is minimised.
        metrics: numbers that are only logged.
    """

    terms: dict[str, Tensor]
    metrics: dict[str, Tensor] = field(default_factory=dict)

    def total(self) -> Tensor:
        """Return the sum of the terms."""
        total, *others = self.terms.values()
        for term in others:
            total = total + term
        return total

    def detached(self) -> LossOutput:
        """Return the same numbers without their graph."""
        return LossOutput(
            {name: value.detach() for name, value in self.terms.items()},
            {name: value.detach() for name, value in self.metrics.items()},
        )

    @staticmethod
    def mean(outputs: Sequence[LossOutput]) -> LossOutput:
        """Return the mean of several outputs of one loss, as over micro-batches."""
        first = outputs[0]
        return LossOutput(
            {name: torch.stack([o.terms[name] for o in outputs]).mean(0) for name in first.terms},
            {name: torch.stack([o.metrics[name] for o in outputs]).mean(0) for name in first.metrics},
        )


Loss = Callable[[Batch, Stage, Random], LossOutput]
"""A function of tensors that can be compiled whole: no branch depends on a tensor's value."""

PhaseRole = Literal["reconstruction", "critic", "generator", "inversion", "prior"]
"""What a phase is for, so that tools need not know its name.

reconstruction: minimises an error or a negative log-likelihood of the data. critic: tells real from generated examples.
generator: plays against a critic. inversion: teaches an encoder to invert the generator. prior: a distribution over codes.
"""


@dataclass(frozen=True)
class Phase:
    """One part of a training step.

    Args:
        name: unique in the recipe; it is part of the seed of the phase's random numbers and of the names of logged terms.
        loss: what is minimised.
        trains: modules whose parameters the loss moves.
        optimizers: names of the optimizers that step.
        role: what the phase is for.
        interval: the phase runs at every n-th step.
        commit: run after the step; applies what the loss has gathered in buffers (codebooks, running means).
        chance_loss: of a critic with a bounded loss, the value of its term "adversarial" when it guesses.
    """

    name: str
    loss: Loss
    trains: tuple[nn.Module, ...]
    optimizers: tuple[str, ...]
    role: PhaseRole = "reconstruction"
    interval: int = 1
    commit: tuple[Callable[[], None], ...] = ()
    chance_loss: float | None = None

    parameters: list[nn.Parameter] = field(init=False, repr=False, compare=False)
    """The parameters that the loss moves, each once."""

    def __post_init__(self) -> None:
        parameters = list(dict.fromkeys(p for module in self.trains for p in module.parameters()))
        object.__setattr__(self, "parameters", parameters)


@dataclass(frozen=True)
class Recipe:
    """The phases of a training step, in order, and what they share.

    Args:
        phases: run one after the other, each with its own random numbers.
        optimizers: by name.
        loss_state: buffers that losses keep between steps.
        missing_gradient: what happens to a parameter that an optimizer steps but the phase gives no gradient.
        group_size: the fewest images that a loss may see at once; None: the whole batch.
        initialise: sets weights or buffers by the first batch, before the first step (data-dependent initialisation, reference
            batches). It sees the whole batch in every process, and is never run again, also not after a resume.

    Raises:
        ValueError: if a phase trains a parameter that none of its optimizers holds.
    """

    phases: tuple[Phase, ...]
    optimizers: Mapping[str, Optimizer]
    loss_state: nn.Module = field(default_factory=nn.Module)
    missing_gradient: MissingGradient = "skip"
    group_size: int | None = 1
    initialise: Callable[[Batch, Random], None] | None = None
    gradient_routes: dict[str, list[tuple[Optimizer, list[int | None]]]] = field(init=False, repr=False, compare=False)
    """By phase: each optimizer that it steps, with the position of each of its parameters among those the phase trains."""

    def __post_init__(self) -> None:
        routes = {}
        for phase in self.phases:
            stepped = [self.optimizers[name] for name in phase.optimizers]
            if not {p for optimizer in stepped for p in optimizer.parameters}.issuperset(phase.parameters):
                raise ValueError(
                    f"phase {phase.name!r} trains a parameter that none of its optimizers "
                    f"({', '.join(phase.optimizers)}) holds: add the optimizer to the phase's optimizers"
                )
            position = {parameter: i for i, parameter in enumerate(phase.parameters)}
            routes[phase.name] = [(optimizer, [position.get(p) for p in optimizer.parameters]) for optimizer in stepped]
        object.__setattr__(self, "gradient_routes", routes)
