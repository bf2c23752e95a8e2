"""Choosing how the arithmetic is done: device, precision, threads, compilation; by timing, once per run."""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import torch

from anamorph.core.errors import UserError
from anamorph.core.signal import Batch, Source
from anamorph.core.stage import Stage
from anamorph.training.loop import descend
from anamorph.training.run import Machine, Precision, Run

__all__ = ["Choice", "choose", "cores", "settle"]

WORTH_BFLOAT16 = 1.2
"""How many times as fast bfloat16 must be to be chosen over float32."""
WORTH_COMPILING_SECONDS = 300
"""How long a run must be expected to take, uncompiled, for a compilation (one to four minutes) to pay; per compilation."""
TRIAL_SECONDS, TRIALS = 1.0, 15
"""How long a candidate is timed: about so many seconds, at most so many steps."""


@dataclass(frozen=True)
class Choice:
    """What the user has decided; None where it is to be found out."""

    device: str | None = None
    precision: Precision | None = None
    threads: int | None = None
    compiled: bool | None = None
    parts: int = 1


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose(choice: Choice, build: Callable[[Machine], Run], source: Source, images: int, kinds: int = 1) -> Machine:
    """The fastest machine within the user's choice, found by timing a few steps of the run that `build` makes.

    images: how many are to be trained on; kinds: how many steps would have to be compiled. They decide whether that pays.
    Raises: UserError for a device that is not there, or a compilation that cannot work.
    """
    device = choice.device or ("cuda" if torch.cuda.is_available() else "cpu")
    _check_device(device)
    precisions: list[Precision] = [choice.precision] if choice.precision else ["float32", "bfloat16"]
    candidates = [
        Machine(device, precision, threads, False, choice.parts)
        for precision, threads in itertools.product(precisions, _threads(choice, device))
    ]
    if choice.compiled and not _can_compile():
        raise UserError("this torch cannot compile here (it needs a C++ compiler and torch 2.11 or newer): use --compile off")
    if len(candidates) == 1 and choice.compiled is not None:
        return replace(candidates[0], compiled=choice.compiled)
    speeds = _time(candidates, build, source, images)
    fastest = [max((m for m in candidates if m.precision == p), key=speeds.__getitem__) for p in precisions]
    best = fastest[-1] if speeds[fastest[-1]] > WORTH_BFLOAT16 * speeds[fastest[0]] else fastest[0]
    if choice.compiled is not None:
        return replace(best, compiled=choice.compiled)
    worth = images / speeds[best] > WORTH_COMPILING_SECONDS * kinds
    return replace(best, compiled=worth and _can_compile())


def settle(machine: Machine) -> None:
    """Make this process compute as the machine says.

    Raises: UserError if the device is not there.
    """
    _check_device(machine.device)
    torch.set_num_threads(machine.threads)
    _keep_freed_memory()


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the device {device!r} is not there ({reason}): use --device cpu") from error


def _threads(choice: Choice, device: str) -> list[int]:
    if choice.threads is not None:
        return [choice.threads]
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if device != "cpu":
        return [torch.get_num_threads()]
    if asked.isdigit() and int(asked):
        return [int(asked)]
    return sorted({1, cores()})


def _time(candidates: list[Machine], build: Callable[[Machine], Run], source: Source, images: int) -> dict[Machine, float]:
    """Images per second of each candidate at the stage where `images` ends, as the median over rounds in which they take
    turns, so that a moment's luck decides nothing; a single candidate is timed too, to know how long the run will take."""
    before = torch.get_num_threads()
    run = build(candidates[0])
    stage = run.schedule.at(images)
    batch = source.take(0, stage.batch, stage.level).to(torch.device(candidates[0].device))
    seconds: dict[Machine, list[float]] = {machine: [] for machine in candidates}
    end = time.perf_counter() + TRIAL_SECONDS * len(candidates)
    for trial in range(TRIALS + 1):
        for machine in candidates:
            settle(machine)
            run.machine = machine
            start = time.perf_counter()
            _step(run, batch, stage)
            seconds[machine].append(time.perf_counter() - start)
        if trial and time.perf_counter() > end:
            break
    torch.set_num_threads(before)
    return {machine: stage.batch / median(took[1:]) for machine, took in seconds.items()}  # the first round warms up


def _step(run: Run, batch: Batch, stage: Stage) -> None:
    stage = run.enter(stage)
    for phase in run.recipe.phases:
        descend(run, phase, batch, stage)
    run.average.follow(run.average.share(stage.batch, run.images))


def _can_compile() -> bool:
    """Whether torch can compile a phase here: it needs a C++ compiler, Python's headers, and a torch that traces gradients."""
    if not hasattr(torch._dynamo.config, "trace_autograd_ops"):
        return False
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8))
    except Exception:  # noqa: BLE001 (whatever keeps it from compiling)
        return False
    return True


def _keep_freed_memory() -> None:
    """Ask glibc to keep what is freed: a training step frees and takes the same large blocks again and again, and the page
    faults of giving them back in between cost up to a third of it."""
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    for parameter, size in ((mmap_threshold, 1 << 30), (trim_threshold, (1 << 31) - 1), (top_pad, 64 << 20)):
        mallopt(parameter, size)
