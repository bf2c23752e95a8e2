"""The state of one training: a model, its recipe, and how far it has come. Everything that a later step depends on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from anamorph.core.config import check
from anamorph.core.errors import UserError
from anamorph.core.model import LatentModel
from anamorph.core.parallel import world
from anamorph.core.random import Random, Seeded
from anamorph.core.recipe import Phase, Recipe
from anamorph.core.stage import Schedule, Stage
from anamorph.training.average import Average

__all__ = ["Diverged", "Machine", "Precision", "Run", "reached"]

Precision = Literal["float32", "bfloat16"]


class Diverged(UserError):
    """A loss or a weight is no longer a finite number."""


@dataclass(frozen=True)
class Machine:
    """How the arithmetic is done. It decides the last bits of the result, so it is chosen once, recorded, and kept by resume.

    compiled: whole phases are compiled (torch.compile), which costs a minute or a few at the start, and at each new level.
    parts: micro-batches per step, to save memory.
    """

    device: str = "cpu"
    precision: Precision = "float32"
    threads: int = 1
    compiled: bool = False
    parts: int = 1

    def __post_init__(self) -> None:
        check(self, "at least 1", "threads", "parts")

    def __str__(self) -> str:
        threads = f", {self.threads} thread{'s' * (self.threads > 1)}" if self.device == "cpu" else ""
        parts = f", {self.parts} micro-batches" if self.parts > 1 else ""
        return f"{self.device}, {self.precision}{threads}{', compiled' if self.compiled else ''}{parts}"


@dataclass
class Run:
    """One training in progress. Nothing in it knows which model this is, where it is saved, or when it ends."""

    model: LatentModel
    recipe: Recipe
    schedule: Schedule
    seed: int = 0
    machine: Machine = field(default_factory=Machine)
    step: int = 0
    images: int = 0
    era: int | None = None
    reached: Stage | None = None
    """How far a growing model has come: the stage of the last step."""

    def __post_init__(self) -> None:
        self.average = Average(self.model)

    def enter(self, stage: Stage) -> Stage:
        """Take up a stage: at the start of an era, the optimizers forget their moments.

        Raises: UserError if the stage's batch cannot be divided as the losses and the machine ask.
        """
        if self.era is not None and stage.era != self.era:
            for optimizer in self.recipe.optimizers.values():
                optimizer.reset()
        self.era, self.reached = stage.era, stage
        self.check_batch(stage.batch)
        return stage

    def check_batch(self, batch: int) -> None:
        """Raises: UserError if the losses cannot see a batch whole, or divided as the machine asks."""
        pieces, group = world() * self.machine.parts, self.recipe.group
        whole = group is None or batch < group or batch % group == 0
        if not whole or batch % pieces or (pieces > 1 and (group is None or (batch // pieces) % group)):
            wanted = "the whole batch at once" if group is None else f"a multiple of {group} images at a time"
            raise UserError(
                f"a batch of {batch} cannot be divided into {pieces} pieces (processes times micro-batches) "
                f"for losses that see {wanted}: change --batch (--growing.batches of a preset) or --parts"
            )

    def random(self, phase: Phase) -> Random:
        """The random numbers of a phase in the step that comes, for the whole batch."""
        return Seeded(self.seed, self.step, phase.name, device=self.machine.device)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that the next step depends on, by name."""
        named: dict[str, Tensor] = {}
        for prefix, module in (("model", self.model), ("average", self.average.model), ("memory", self.recipe.memory)):
            named |= {f"{prefix}/{name}": value for name, value in module.state_dict().items()}
        for name, optimizer in self.recipe.optimizers.items():
            named |= {f"optimizer/{name}/{key}": value for key, value in optimizer.state().items()}
        return named

    def facts(self) -> dict[str, str]:
        """The numbers that the next step depends on."""
        progress: dict[str, Any] = {"step": self.step, "images": self.images, "era": self.era}
        if self.reached is not None:
            progress |= {"level": self.reached.level, "blend": float(self.reached.blend)}
        return {"progress": json.dumps(progress)}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
        """Take up the state that `tensors` and `facts` once gave.

        Raises: UserError listing every tensor that is missing, unknown or of another shape; nothing is changed then.
        """
        mine = self.tensors()
        wrong = [f"{name} is missing" for name in mine.keys() - tensors.keys()]
        wrong += [f"{name} is unknown" for name in tensors.keys() - mine.keys()]
        wrong += [
            f"{name} is {list(tensors[name].shape)}, wanted {list(mine[name].shape)}"
            for name in mine.keys() & tensors.keys()
            if mine[name].shape != tensors[name].shape
        ]
        if wrong:
            raise UserError("the checkpoint does not fit the model: " + "; ".join(sorted(wrong)))
        for name, value in mine.items():
            value.copy_(tensors[name])
        progress = json.loads(facts["progress"])
        self.step, self.images, self.era = progress["step"], progress["images"], progress["era"]
        self.reached = reached(progress, self.schedule)

    def check_finite(self) -> None:
        """Raises: Diverged if a weight is not finite."""
        for name, value in self.tensors().items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise Diverged(f"{name} is not finite at step {self.step} ({self.images} images)")


def reached(progress: Mapping[str, Any], schedule: Schedule) -> Stage:
    """How far a growing model had come, by what a checkpoint says of its progress."""
    if "level" not in progress:  # before its first step
        return schedule.at(int(progress["images"]))
    return Stage(int(progress["level"]), 1, float(progress["blend"]))
