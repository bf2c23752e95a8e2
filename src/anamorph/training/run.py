"""The state of one training: a model, its recipe, and all else that a later step depends on."""

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
from anamorph.core.signal import Source
from anamorph.core.stage import Schedule, Stage
from anamorph.training.ema import EMA

__all__ = ["ComputeSettings", "Diverged", "Precision", "Run", "stage_of_checkpoint"]

Precision = Literal["float32", "bfloat16"]


class Diverged(UserError):
    """A loss or a weight is no longer a finite number."""


@dataclass(frozen=True)
class ComputeSettings:
    """How a run computes. It decides the last bits of the result, so it is chosen once, recorded, and kept by `resume`."""

    device: str = "cpu"
    """A device of torch, such as cpu, cuda or cuda:1."""
    precision: Precision = "float32"
    """bfloat16: weights, moments and the EMA stay in float32; layers compute in bfloat16."""
    threads: int = 1
    """Threads of one operation on a processor."""
    compiled: bool = False
    """Compile whole training steps (torch.compile), which takes a minute or more at the start, and at each new level."""
    gradient_accumulation: int = 1
    """Micro-batches per step; more of them need less memory."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "threads", "gradient_accumulation")

    def __str__(self) -> str:
        threads = f", {self.threads} thread{'s' * (self.threads > 1)}" if self.device == "cpu" else ""
        chunks = f", {self.gradient_accumulation} micro-batches" if self.gradient_accumulation > 1 else ""
        return f"{self.device}, {self.precision}{threads}{', compiled' if self.compiled else ''}{chunks}"


@dataclass
class Run:
    """One training in progress. Nothing in it knows which model this is, where it is saved, or when it ends.

    Args:
        model: what is trained.
        recipe: how.
        schedule: the stage as a function of the images seen.
        seed: of all random numbers of the training.
        compute: device, precision, threads.
        step: steps done.
        images: images seen.
        optimizer_epoch: that of the last step; None before the first.
        stage_reached: the stage of the last step, which is how far a growing model has come.
        initialised: whether the recipe's `initialise` has been run.
    """

    model: LatentModel
    recipe: Recipe
    schedule: Schedule
    seed: int = 0
    compute: ComputeSettings = field(default_factory=ComputeSettings)
    step: int = 0
    images: int = 0
    optimizer_epoch: int | None = None
    stage_reached: Stage | None = None
    initialised: bool = False

    def __post_init__(self) -> None:
        self.ema = EMA(self.model)

    def initialise(self, source: Source) -> None:
        """Run the recipe's data-dependent initialisation on the first batch, once; the EMA starts from its result."""
        if self.initialised or self.step or self.recipe.initialise is None:
            return
        stage = self.schedule.at(0)
        batch = source.take(0, stage.batch, stage.level).to(torch.device(self.compute.device))
        with torch.no_grad():
            self.recipe.initialise(batch, Seeded(self.seed, 0, "initialise", device=self.compute.device))
        self.ema.model.load_state_dict(self.model.state_dict())
        self.initialised = True

    def enter_stage(self, stage: Stage) -> Stage:
        """Enter a stage; when its optimizer epoch is new, the optimizers' moments are reset.

        Raises:
            UserError: if the stage's batch cannot be divided as the losses and the compute settings need.
        """
        if self.optimizer_epoch is not None and stage.optimizer_epoch != self.optimizer_epoch:
            for optimizer in self.recipe.optimizers.values():
                optimizer.reset()
        self.optimizer_epoch, self.stage_reached = stage.optimizer_epoch, stage
        self.check_batch(stage.batch)
        return stage

    def check_batch(self, batch: int) -> None:
        """Raise a UserError if a batch cannot be divided into the micro-batches of all processes."""
        pieces, group = world_size() * self.compute.gradient_accumulation, self.recipe.group_size
        whole = group is None or batch < group or batch % group == 0
        if not whole or batch % pieces or (pieces > 1 and (group is None or (batch // pieces) % group)):
            needed = "the whole batch at once" if group is None else f"a multiple of {group} images at a time"
            raise UserError(
                f"a batch of {batch} cannot be divided into {pieces} pieces (processes times micro-batches) "
                f"for losses that see {needed}: change --batch (--growing.batches of a preset) or --gradient-accumulation"
            )

    def random(self, phase: Phase) -> Random:
        """Return the random numbers of a phase in the coming step, for the whole batch."""
        return Seeded(self.seed, self.step, phase.name, device=self.compute.device)

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor that the next step depends on, by name."""
        named: dict[str, Tensor] = {}
        for prefix, module in (("model", self.model), ("ema", self.ema.model), ("loss_state", self.recipe.loss_state)):
            named |= {f"{prefix}/{name}": value for name, value in module.state_dict().items()}
        for name, optimizer in self.recipe.optimizers.items():
            named |= {f"optimizer/{name}/{key}": value for key, value in optimizer.state().items()}
        return named

    def metadata(self) -> dict[str, str]:
        """Return the numbers that the next step depends on, as the metadata of a checkpoint."""
        progress: dict[str, Any] = {"step": self.step, "images": self.images, "optimizer_epoch": self.optimizer_epoch}
        if self.stage_reached is not None:
            progress |= {"level": self.stage_reached.level, "alpha": float(self.stage_reached.alpha)}
        if self.initialised:
            progress["initialised"] = True
        return {"progress": json.dumps(progress)}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """Restore the state that `tensors` and `metadata` once gave.

        Raises:
            UserError: lists every tensor that is missing, unknown or of another shape; nothing is changed then.
        """
        own = self.tensors()
        wrong = [f"{name} is missing" for name in own.keys() - tensors.keys()]
        wrong += [f"{name} is unknown" for name in tensors.keys() - own.keys()]
        wrong += [
            f"{name} is {list(tensors[name].shape)}, wanted {list(own[name].shape)}"
            for name in own.keys() & tensors.keys()
            if own[name].shape != tensors[name].shape
        ]
        if wrong:
            raise UserError("the checkpoint does not fit the model: " + "; ".join(sorted(wrong)))
        for name, value in own.items():
            value.copy_(tensors[name])
        progress = json.loads(metadata["progress"])
        self.step, self.images, self.optimizer_epoch = progress["step"], progress["images"], progress["optimizer_epoch"]
        self.initialised = bool(progress.get("initialised", False))
        self.stage_reached = stage_of_checkpoint(progress, self.schedule)

    def check_finite(self) -> None:
        """Raise Diverged if a tensor of the run is not finite."""
        for name, value in self.tensors().items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise Diverged(f"{name} is not finite at step {self.step} ({self.images} images)")


def stage_of_checkpoint(progress: Mapping[str, Any], schedule: Schedule) -> Stage:
    """Return the stage that a checkpoint was written in, from its metadata."""
    if "level" not in progress:  # before its first step
        return schedule.at(int(progress["images"]))
    return Stage(int(progress["level"]), 1, float(progress["alpha"]))
