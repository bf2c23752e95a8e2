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
from anamorph.training.loop import train_phase
from anamorph.training.run import ComputeSettings, Precision, Run

__all__ = ["ComputeRequest", "apply_compute_settings", "autotune", "cpu_count"]

WORTH_BFLOAT16 = 1.2
"""How many times as fast bfloat16 must be to be chosen over float32."""
WORTH_COMPILING_SECONDS = 300
"""How long a run must be expected to take, uncompiled, for a compilation (one to four minutes) to pay; per compilation."""
TRIAL_SECONDS, TRIALS = 1.0, 15
"""How long a candidate is timed: about so many seconds, at most so many steps."""


@dataclass(frozen=True)
class ComputeRequest:
    """What the user has decided; None where it is to be found out."""

    device: str | None = None
    precision: Precision | None = None
    threads: int | None = None
    compiled: bool | None = None
    gradient_accumulation: int = 1


def cpu_count() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def autotune(
    request: ComputeRequest, build: Callable[[ComputeSettings], Run], source: Source, images: int, num_graphs: int = 1
) -> ComputeSettings:
    """The fastest machine within the user's choice, found by timing a few steps of the run that `build` makes.

    images: how many are to be trained on; kinds: how many steps would have to be compiled. They decide whether that pays.
    Raises: UserError for a device that is not there, or a compilation that cannot work.
    """
    device = request.device or ("cuda" if torch.cuda.is_available() else "cpu")
    _check_device(device)
    precisions: list[Precision] = [request.precision] if request.precision else ["float32", "bfloat16"]
    candidates = [
        ComputeSettings(device, precision, threads, False, request.gradient_accumulation)
        for precision, threads in itertools.product(precisions, _threads(request, device))
    ]
    if request.compiled and not _can_compile():
        raise UserError("this torch cannot compile here (it needs a C++ compiler and torch 2.11 or newer): use --compile off")
    if len(candidates) == 1 and request.compiled is not None:
        return replace(candidates[0], compiled=request.compiled)
    speeds = _time(candidates, build, source, images)
    fastest = [max((m for m in candidates if m.precision == p), key=speeds.__getitem__) for p in precisions]
    best = fastest[-1] if speeds[fastest[-1]] > WORTH_BFLOAT16 * speeds[fastest[0]] else fastest[0]
    if request.compiled is not None:
        return replace(best, compiled=request.compiled)
    worth = images / speeds[best] > WORTH_COMPILING_SECONDS * num_graphs
    return replace(best, compiled=worth and _can_compile())


def apply_compute_settings(compute: ComputeSettings) -> None:
    """Make this process compute as the machine says.

    Raises: UserError if the device is not there.
    """
    _check_device(compute.device)
    torch.set_num_threads(compute.threads)
    _keep_freed_memory()


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the device {device!r} is not there ({reason}): use --device cpu") from error


def _threads(choice: ComputeRequest, device: str) -> list[int]:
    if choice.threads is not None:
        return [choice.threads]
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if device != "cpu":
        return [torch.get_num_threads()]
    if asked.isdigit() and int(asked):
        return [int(asked)]
    return sorted({1, cpu_count()})


def _time(
    candidates: list[ComputeSettings], build: Callable[[ComputeSettings], Run], source: Source, images: int
) -> dict[ComputeSettings, float]:
    """Images per second of each candidate at the stage where `images` ends, as the median over rounds in which they take
    turns, so that a moment's luck decides nothing; a single candidate is timed too, to know how long the run will take."""
    before = torch.get_num_threads()
    run = build(candidates[0])
    stage = run.schedule.at(images)
    batch = source.take(0, stage.batch, stage.level).to(torch.device(candidates[0].device))
    seconds: dict[ComputeSettings, list[float]] = {machine: [] for machine in candidates}
    end = time.perf_counter() + TRIAL_SECONDS * len(candidates)
    for trial in range(TRIALS + 1):
        for machine in candidates:
            apply_compute_settings(machine)
            run.compute = machine
            start = time.perf_counter()
            _step(run, batch, stage)
            seconds[machine].append(time.perf_counter() - start)
        if trial and time.perf_counter() > end:
            break
    torch.set_num_threads(before)
    return {machine: stage.batch / median(took[1:]) for machine, took in seconds.items()}  # the first round warms up


def _step(run: Run, batch: Batch, stage: Stage) -> None:
    stage = run.enter_stage(stage)
    for phase in run.recipe.phases:
        train_phase(run, phase, batch, stage)
    run.ema.update(run.ema.weight(stage.batch, run.images))


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
