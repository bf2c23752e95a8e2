"""The training loop: one for every model. It knows phases, not losses, and stages, not resolutions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from anamorph.core.parallel import mean_over_processes, rank, world_size
from anamorph.core.random import Sliced
from anamorph.core.recipe import LossOutput, Phase
from anamorph.core.signal import Batch, Source
from anamorph.core.stage import Stage
from anamorph.training import gradients as plain
from anamorph.training.compiled import CompiledStep
from anamorph.training.gradients import Gradients, route
from anamorph.training.prefetch import Prefetch
from anamorph.training.run import Diverged, Run

__all__ = ["StepResult", "train", "train_phase"]


@dataclass(frozen=True)
class StepResult:
    """One step done: how far training is, the stage it was in, and what its losses said, by "phase/term"."""

    step: int
    images: int
    stage: Stage
    losses: dict[str, float]
    metrics: dict[str, float | list[float]]


def train(run: Run, source: Source) -> Iterator[StepResult]:
    """Train, a step at a time. It never ends by itself: the caller prints, saves, measures, and breaks.

    Raises: Diverged naming phase, term, step and images seen, when a loss is not finite.
    """
    compiled = CompiledStep(run) if run.compute.compiled else None
    alone = world_size() * run.compute.gradient_accumulation == 1
    device = torch.device(run.compute.device)
    with Prefetch(source) as feed:
        while True:
            stage = run.enter_stage(run.schedule.at(run.images))
            batch = feed.take(run.images, stage.batch, stage.level).to(device)
            phases = [phase for phase in run.recipe.phases if run.step % phase.interval == 0]
            if compiled and alone:
                outcomes = compiled.step(phases, batch, stage)
            else:
                outcomes = {phase.name: train_phase(run, phase, batch, stage, compiled) for phase in phases}
                run.ema.update(run.ema.weight(stage.batch, run.images))
            run.step, run.images = run.step + 1, run.images + stage.batch
            yield _tick(run, stage, outcomes)


def train_phase(run: Run, phase: Phase, batch: Batch, stage: Stage, compiled: CompiledStep | None = None) -> LossOutput:
    """Run one phase: its loss, the gradients of what it trains, a step of its optimizers, and its commits."""
    outcome, gradients = _divided(run, phase, batch, stage, compiled)
    for adam, its in route(run.recipe, phase, gradients):
        adam.step(its, stage.lr_scale, run.recipe.missing_gradient)
    for commit in phase.commit:
        commit()
    return outcome


def _divided(run: Run, phase: Phase, batch: Batch, stage: Stage, compiled: CompiledStep | None) -> tuple[LossOutput, Gradients]:
    """The mean outcome and gradients over this process's micro-batches, and then over the processes."""
    parts = run.compute.gradient_accumulation
    pieces = []
    for part in range(parts):
        offset, stride = rank() + world_size() * part, world_size() * parts
        random = Sliced(run.random(phase), offset, stride)
        arguments = (phase, batch.micro_batch(offset, stride), stage, random)
        pieces.append(compiled.gradients(*arguments) if compiled else plain.compute_gradients(*arguments, run.compute))
    outcome, gradients = pieces[0]
    if parts > 1:
        gradients = [None if g[0] is None else torch.stack(g).mean(0) for g in zip(*(g for _, g in pieces), strict=True)]
        outcome = LossOutput.mean([piece for piece, _ in pieces])
    mean_over_processes([*outcome.terms.values(), *outcome.metrics.values(), *(g for g in gradients if g is not None)])
    return outcome, gradients


def _tick(run: Run, stage: Stage, outcomes: dict[str, LossOutput]) -> StepResult:
    terms = _numbers({f"{phase}/{name}": t for phase, o in outcomes.items() for name, t in o.terms.items()})
    watch = _numbers({f"{phase}/{name}": t for phase, o in outcomes.items() for name, t in o.metrics.items()})
    for name, value in terms.items():
        if not math.isfinite(value[0]):
            phase, term = name.split("/")
            raise Diverged(
                f"training diverged: in phase {phase!r} the term {term!r} is {value[0]} at step {run.step} "
                f"({run.images} images). The last good checkpoint is kept: try a lower "
                f"--model.learning-rate, or --precision float32"
            )
    return StepResult(
        run.step,
        run.images,
        stage,
        {name: value[0] for name, value in terms.items()},
        {name: value[0] if len(value) == 1 else value for name, value in watch.items()},
    )


def _numbers(tensors: dict[str, Tensor]) -> dict[str, list[float]]:
    """Tensors as lists of numbers, fetched from the device in one go."""
    if not tensors:
        return {}
    flat = torch.cat([t.reshape(-1).float() for t in tensors.values()]).tolist()
    ends = iter(flat)
    return {name: [next(ends) for _ in range(t.numel())] for name, t in tensors.items()}
