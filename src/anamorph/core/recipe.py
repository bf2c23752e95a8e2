"""How a model is trained, as data: which losses move which modules, with which optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from anamorph.core.optimizer import Adam, MissingGradient
from anamorph.core.random import Random
from anamorph.core.signal import Batch
from anamorph.core.stage import Stage

__all__ = ["Loss", "LossOutput", "Phase", "Recipe"]


@dataclass
class LossOutput:
    """What a loss gives: `terms` are weighted, and their sum is descended; `watch` is only logged."""

    terms: dict[str, Tensor]
    metrics: dict[str, Tensor] = field(default_factory=dict)

    def total(self) -> Tensor:
        total, *others = self.terms.values()
        for term in others:
            total = total + term
        return total

    def detached(self) -> LossOutput:
        """The same numbers, without their history."""
        return LossOutput(
            {name: value.detach() for name, value in self.terms.items()},
            {name: value.detach() for name, value in self.metrics.items()},
        )

    @staticmethod
    def mean(outcomes: Sequence[LossOutput]) -> LossOutput:
        """The mean of several outcomes of one loss, as over micro-batches."""
        first = outcomes[0]
        return LossOutput(
            {name: torch.stack([o.terms[name] for o in outcomes]).mean(0) for name in first.terms},
            {name: torch.stack([o.metrics[name] for o in outcomes]).mean(0) for name in first.metrics},
        )


Loss = Callable[[Batch, Stage, Random], LossOutput]
"""One function of tensors, so that it can be compiled whole: no branch depends on a tensor's value."""


@dataclass(frozen=True)
class Phase:
    """One part of a training step.

    trains: the modules whose parameters the loss moves. steps: the optimizers that step. every: run at every n-th step.
    commit: run after the step; applies what the loss has accumulated in buffers (code books, running means).
    """

    name: str
    loss: Loss
    trains: tuple[nn.Module, ...]
    optimizers: tuple[str, ...]
    interval: int = 1
    commit: tuple[Callable[[], None], ...] = ()

    parameters: list[nn.Parameter] = field(init=False, repr=False, compare=False)
    """What the loss moves, each once."""

    def __post_init__(self) -> None:
        parameters = list(dict.fromkeys(p for module in self.trains for p in module.parameters()))
        object.__setattr__(self, "parameters", parameters)


@dataclass(frozen=True)
class Recipe:
    """The phases of a training step, in order, and what they share.

    memory: buffers that losses keep between steps.
    idle: what happens to a parameter that an optimizer steps but the phase gives no gradient.
    group: the fewest images that a loss may see at once; None: the whole batch.

    Raises: ValueError if a phase trains a parameter that none of its optimizers holds.
    """

    phases: tuple[Phase, ...]
    optimizers: Mapping[str, Adam]
    loss_state: nn.Module = field(default_factory=nn.Module)
    missing_gradient: MissingGradient = "skip"
    group_size: int | None = 1
    gradient_routes: dict[str, list[tuple[Adam, list[int | None]]]] = field(init=False, repr=False, compare=False)
    """By phase: each optimizer that it steps, with the place of each of its parameters among those the phase trains."""

    def __post_init__(self) -> None:
        routes = {}
        for phase in self.phases:
            steps = [self.optimizers[name] for name in phase.optimizers]
            if not {p for adam in steps for p in adam.parameters}.issuperset(phase.parameters):
                raise ValueError(
                    f"phase {phase.name!r} trains a parameter that none of its optimizers "
                    f"({', '.join(phase.optimizers)}) holds: add the optimizer to the phase's steps"
                )
            place = {parameter: i for i, parameter in enumerate(phase.parameters)}
            routes[phase.name] = [(adam, [place.get(p) for p in adam.parameters]) for adam in steps]
        object.__setattr__(self, "gradient_routes", routes)
