"""The training loop: one for every model. It knows phases, not losses, and stages, not resolutions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from anamorph.core.parallel import mean_over_processes, rank, world
from anamorph.core.random import Sliced
from anamorph.core.recipe import Outcome, Phase
from anamorph.core.signal import Batch, Source
from anamorph.core.stage import Stage
from anamorph.training import gradients as plain
from anamorph.training.compiled import Compiled
from anamorph.training.gradients import Gradients, route
from anamorph.training.prefetch import Prefetch
from anamorph.training.run import Diverged, Run

__all__ = ["Tick", "descend", "train"]


@dataclass(frozen=True)
class Tick:
    """One step done: how far training is, the stage it was in, and what its losses said, by "phase/term"."""

    step: int
    images: int
    stage: Stage
    terms: dict[str, float]
    watch: dict[str, float | list[float]]


def train(run: Run, source: Source) -> Iterator[Tick]:
    """Train, a step at a time. It never ends by itself: the caller prints, saves, measures, and breaks.

    Raises: Diverged naming phase, term, step and images seen, when a loss is not finite.
    """
    compiled = Compiled(run) if run.machine.compiled else None
    alone = world() * run.machine.parts == 1
    device = torch.device(run.machine.device)
    with Prefetch(source) as feed:
        while True:
            stage = run.enter(run.schedule.at(run.images))
            batch = feed.take(run.images, stage.batch, stage.level).to(device)
            phases = [phase for phase in run.recipe.phases if run.step % phase.every == 0]
            if compiled and alone:
                outcomes = compiled.step(phases, batch, stage)
            else:
                outcomes = {phase.name: descend(run, phase, batch, stage, compiled) for phase in phases}
                run.average.follow(run.average.share(stage.batch, run.images))
            run.step, run.images = run.step + 1, run.images + stage.batch
            yield _tick(run, stage, outcomes)


def descend(run: Run, phase: Phase, batch: Batch, stage: Stage, compiled: Compiled | None = None) -> Outcome:
    """Run one phase: its loss, the gradients of what it trains, a step of its optimizers, and its commits."""
    outcome, gradients = _divided(run, phase, batch, stage, compiled)
    for adam, its in route(run.recipe, phase, gradients):
        adam.step(its, stage.lr_scale, run.recipe.idle)
    for commit in phase.commit:
        commit()
    return outcome


def _divided(run: Run, phase: Phase, batch: Batch, stage: Stage, compiled: Compiled | None) -> tuple[Outcome, Gradients]:
    """The mean outcome and gradients over this process's micro-batches, and then over the processes."""
    parts = run.machine.parts
    pieces = []
    for part in range(parts):
        offset, stride = rank() + world() * part, world() * parts
        random = Sliced(run.random(phase), offset, stride)
        arguments = (phase, batch.part(offset, stride), stage, random)
        pieces.append(compiled.gradients(*arguments) if compiled else plain.gradients(*arguments, run.machine))
    outcome, gradients = pieces[0]
    if parts > 1:
        gradients = [None if g[0] is None else torch.stack(g).mean(0) for g in zip(*(g for _, g in pieces), strict=True)]
        outcome = Outcome.mean([piece for piece, _ in pieces])
    mean_over_processes([*outcome.terms.values(), *outcome.watch.values(), *(g for g in gradients if g is not None)])
    return outcome, gradients


def _tick(run: Run, stage: Stage, outcomes: dict[str, Outcome]) -> Tick:
    terms = _numbers({f"{phase}/{name}": t for phase, o in outcomes.items() for name, t in o.terms.items()})
    watch = _numbers({f"{phase}/{name}": t for phase, o in outcomes.items() for name, t in o.watch.items()})
    for name, value in terms.items():
        if not math.isfinite(value[0]):
            phase, term = name.split("/")
            raise Diverged(
                f"training diverged: in phase {phase!r} the term {term!r} is {value[0]} at step {run.step} "
                f"({run.images} images). The last good checkpoint is kept: try a lower --model.rate, or --precision float32"
            )
    return Tick(
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
