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
from anamorph.core.parallel import world_size
from anamorph.core.random import Random, Seeded
from anamorph.core.recipe import Phase, Recipe
from anamorph.core.stage import Schedule, Stage
from anamorph.training.ema import EMA

__all__ = ["ComputeSettings", "Diverged", "Precision", "Run", "stage_of_checkpoint"]

Precision = Literal["float32", "bfloat16"]


class Diverged(UserError):
    """A loss or a weight is no longer a finite number."""


@dataclass(frozen=True)
class ComputeSettings:
    """How the arithmetic is done. It decides the last bits of the result, so it is chosen once, recorded, and kept by resume.

    compiled: whole phases are compiled (torch.compile), which costs a minute or a few at the start, and at each new level.
    parts: micro-batches per step, to save memory.
    """

    device: str = "cpu"
    precision: Precision = "float32"
    threads: int = 1
    compiled: bool = False
    gradient_accumulation: int = 1

    def __post_init__(self) -> None:
        check(self, "at least 1", "threads", "gradient_accumulation")

    def __str__(self) -> str:
        threads = f", {self.threads} thread{'s' * (self.threads > 1)}" if self.device == "cpu" else ""
        parts = f", {self.gradient_accumulation} micro-batches" if self.gradient_accumulation > 1 else ""
        return f"{self.device}, {self.precision}{threads}{', compiled' if self.compiled else ''}{parts}"


@dataclass
class Run:
    """One training in progress. Nothing in it knows which model this is, where it is saved, or when it ends."""

    model: LatentModel
    recipe: Recipe
    schedule: Schedule
    seed: int = 0
    compute: ComputeSettings = field(default_factory=ComputeSettings)
    step: int = 0
    images: int = 0
    optimizer_epoch: int | None = None
    stage_reached: Stage | None = None
    """How far a growing model has come: the stage of the last step."""

    def __post_init__(self) -> None:
        self.ema = EMA(self.model)

    def enter_stage(self, stage: Stage) -> Stage:
        """Take up a stage: at the start of an era, the optimizers forget their moments.

        Raises: UserError if the stage's batch cannot be divided as the losses and the machine ask.
        """
        if self.optimizer_epoch is not None and stage.optimizer_epoch != self.optimizer_epoch:
            for optimizer in self.recipe.optimizers.values():
                optimizer.reset()
        self.optimizer_epoch, self.stage_reached = stage.optimizer_epoch, stage
        self.check_batch(stage.batch)
        return stage

    def check_batch(self, batch: int) -> None:
        """Raises: UserError if the losses cannot see a batch whole, or divided as the machine asks."""
        pieces, group = world_size() * self.compute.gradient_accumulation, self.recipe.group_size
        whole = group is None or batch < group or batch % group == 0
        if not whole or batch % pieces or (pieces > 1 and (group is None or (batch // pieces) % group)):
            wanted = "the whole batch at once" if group is None else f"a multiple of {group} images at a time"
            raise UserError(
                f"a batch of {batch} cannot be divided into {pieces} pieces (processes times micro-batches) "
                f"for losses that see {wanted}: change --batch (--growing.batches of a preset) or --gradient-accumulation"
            )

    def random(self, phase: Phase) -> Random:
        """The random numbers of a phase in the step that comes, for the whole batch."""
        return Seeded(self.seed, self.step, phase.name, device=self.compute.device)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that the next step depends on, by name."""
        named: dict[str, Tensor] = {}
        for prefix, module in (("model", self.model), ("ema", self.ema.model), ("loss_state", self.recipe.loss_state)):
            named |= {f"{prefix}/{name}": value for name, value in module.state_dict().items()}
        for name, optimizer in self.recipe.optimizers.items():
            named |= {f"optimizer/{name}/{key}": value for key, value in optimizer.state().items()}
        return named

    def metadata(self) -> dict[str, str]:
        """The numbers that the next step depends on."""
        progress: dict[str, Any] = {"step": self.step, "images": self.images, "optimizer_epoch": self.optimizer_epoch}
        if self.stage_reached is not None:
            progress |= {"level": self.stage_reached.level, "alpha": float(self.stage_reached.alpha)}
        return {"progress": json.dumps(progress)}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
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
        progress = json.loads(metadata["progress"])
        self.step, self.images, self.optimizer_epoch = progress["step"], progress["images"], progress["optimizer_epoch"]
        self.stage_reached = stage_of_checkpoint(progress, self.schedule)

    def check_finite(self) -> None:
        """Raises: Diverged if a weight is not finite."""
        for name, value in self.tensors().items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise Diverged(f"{name} is not finite at step {self.step} ({self.images} images)")


def stage_of_checkpoint(progress: Mapping[str, Any], schedule: Schedule) -> Stage:
    """How far a growing model had come, by what a checkpoint says of its progress."""
    if "level" not in progress:  # before its first step
        return schedule.at(int(progress["images"]))
    return Stage(int(progress["level"]), 1, float(progress["alpha"]))
