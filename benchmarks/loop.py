"""Time the training loop beyond its phases: the order of data, batches, stages, step results and log lines."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch

from anamorph.core.stage import Stage
from anamorph.training.compiled import CompiledStep
from anamorph.training.folder import RunFolder
from anamorph.training.loop import train, train_phase
from anamorph.training.run import Precision, Run
from anamorph.training.session import TrainingPlan, run_training
from train_alae import BATCH, data, make_run
from turns import median_of

STEPS = 30


def bare(run: Run) -> Callable[[], None]:
    """Return a function that does one step on a batch in memory: the phases and the EMA, and nothing else."""
    batch, stage = data().take(0, BATCH), Stage(0, BATCH)
    compiled = CompiledStep(run) if run.compute.compiled else None

    def step() -> None:
        if compiled:
            compiled.step(run.recipe.phases, batch, stage)
        else:
            for phase in run.recipe.phases:
                train_phase(run, phase, batch, stage)
            run.ema.update(run.ema.weight(BATCH, run.images))
        run.step, run.images = run.step + 1, run.images + BATCH

    return step


def timed(step: Callable[[], Any]) -> float:
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    return time.perf_counter() - start


def compare(precision: Precision, threads: int, compiled: bool, rounds: int) -> Iterator[float]:
    """Yield the seconds of `train` and of a whole session, by turns, each divided by those of the bare phases."""
    alone = bare(make_run(precision, threads, compiled))
    with tempfile.TemporaryDirectory() as scratch:
        run, plan = make_run(precision, threads, compiled), TrainingPlan.of(10_000_000, ())
        statuses = run_training(run, data(), data("test").in_order(), RunFolder(scratch), plan)
        results = train(make_run(precision, threads, compiled), data())
        for _ in range(3):
            alone()
        for _ in islice(statuses, 6):
            pass
        for _ in islice(results, 3):
            pass
        for _ in range(rounds):
            seconds = timed(alone)
            yield timed(lambda: next(results)) / seconds
            yield timed(lambda: next(statuses)) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    print(f"seconds of {STEPS} steps of `alae` over those of its bare phases, {options.threads} threads; median (range)")
    for precision, compiled in (("float32", False), ("bfloat16", True)):
        overheads = list(compare(precision, options.threads, compiled, options.rounds))  # type: ignore[arg-type]
        how = f"{precision}, {'compiled' if compiled else 'not compiled'}"
        print(
            f"  {how}: train() {median_of(overheads[::2], 3)}; with log and checkpoints {median_of(overheads[1::2], 3)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
