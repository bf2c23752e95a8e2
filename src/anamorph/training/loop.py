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
from anamorph.training.compiled import CompiledStep
from anamorph.training.gradients import Gradients, compute_gradients, route
from anamorph.training.prefetch import Prefetch
from anamorph.training.run import Diverged, Run

__all__ = ["StepResult", "train", "train_phase"]


@dataclass(frozen=True)
class StepResult:
    """The result of one training step.

    Args:
        step: steps done.
        images: images seen.
        stage: the stage of this step.
        losses: what the losses returned, by "phase/term".
        metrics: what the losses only report, by "phase/metric"; vectors as lists.
    """

    step: int
    images: int
    stage: Stage
    losses: dict[str, float]
    metrics: dict[str, float | list[float]]


def train(run: Run, source: Source) -> Iterator[StepResult]:
    """Train a step at a time. It never ends by itself: the caller prints, saves, measures, and breaks.

    Raises:
        Diverged: names phase, term, step and images seen, when a loss is not finite.
    """
    run.initialise(source)
    compiled = CompiledStep(run) if run.compute.compiled else None
    whole = compiled is not None and compiled.steps_optimizers and world_size() * run.compute.gradient_accumulation == 1
    device = torch.device(run.compute.device)
    with Prefetch(source) as feed:
        while True:
            stage = run.enter_stage(run.schedule.at(run.images))
            batch = feed.take(run.images, stage.batch, stage.level).to(device)
            phases = [phase for phase in run.recipe.phases if run.step % phase.interval == 0]
            if compiled and whole:
                outputs = compiled.step(phases, batch, stage)
            else:
                outputs = {phase.name: train_phase(run, phase, batch, stage, compiled) for phase in phases}
                run.ema.update(run.ema.weight(stage.batch, run.images))
            run.step, run.images = run.step + 1, run.images + stage.batch
            yield _result(run, stage, outputs)


def train_phase(run: Run, phase: Phase, batch: Batch, stage: Stage, compiled: CompiledStep | None = None) -> LossOutput:
    """Run one phase: its loss, the gradients of what it trains, a step of its optimizers, and its commits."""
    output, gradients = _accumulated(run, phase, batch, stage, compiled)
    for optimizer, own in route(run.recipe, phase, gradients):
        optimizer.step(own, stage.lr_scale, run.recipe.missing_gradient)
    for commit in phase.commit:
        commit()
    return output


def _accumulated(
    run: Run, phase: Phase, batch: Batch, stage: Stage, compiled: CompiledStep | None
) -> tuple[LossOutput, Gradients]:
    """Return the mean output and gradients over this process's micro-batches, and then over the processes."""
    count = run.compute.gradient_accumulation
    results = []
    for i in range(count):
        offset, stride = rank() + world_size() * i, world_size() * count
        random = Sliced(run.random(phase), offset, stride)
        arguments = (phase, batch.micro_batch(offset, stride), stage, random)
        results.append(compiled.gradients(*arguments) if compiled else compute_gradients(*arguments, run.compute))
    output, gradients = results[0]
    if count > 1:
        gradients = [None if g[0] is None else torch.stack(g).mean(0) for g in zip(*(g for _, g in results), strict=True)]
        output = LossOutput.mean([output for output, _ in results])
    mean_over_processes([*output.terms.values(), *output.metrics.values(), *(g for g in gradients if g is not None)])
    return output, gradients


def _result(run: Run, stage: Stage, outputs: dict[str, LossOutput]) -> StepResult:
    losses = _numbers({f"{phase}/{name}": t for phase, o in outputs.items() for name, t in o.terms.items()})
    metrics = _numbers({f"{phase}/{name}": t for phase, o in outputs.items() for name, t in o.metrics.items()})
    for name, value in losses.items():
        if not math.isfinite(value[0]):
            phase, term = name.split("/")
            raise Diverged(
                f"training diverged: in phase {phase!r} the term {term!r} is {value[0]} at step {run.step} "
                f"({run.images} images). The last good checkpoint is kept: try a lower --model.learning-rate, or "
                f"--precision float32"
            )
    return StepResult(
        run.step,
        run.images,
        stage,
        {name: value[0] for name, value in losses.items()},
        {name: value[0] if len(value) == 1 else value for name, value in metrics.items()},
    )


def _numbers(tensors: dict[str, Tensor]) -> dict[str, list[float]]:
    """Convert tensors to lists of numbers, fetched from the device at once."""
    if not tensors:
        return {}
    flat = iter(torch.cat([t.reshape(-1).float() for t in tensors.values()]).tolist())
    return {name: [next(flat) for _ in range(t.numel())] for name, t in tensors.items()}
