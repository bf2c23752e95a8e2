"""Choose device, precision, threads and compilation of a run, by timing a few steps once."""

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
"""bfloat16 is chosen over float32 if it is faster by this factor."""
WORTH_COMPILING_SECONDS = 300
"""A compilation takes one to four minutes. It pays for runs that would take longer than this; per compilation."""
TRIAL_SECONDS, TRIALS = 1.0, 15
"""Seconds for which each candidate is timed, and the largest number of steps."""


@dataclass(frozen=True)
class ComputeRequest:
    """What the user has decided about the computation; None where it is chosen by timing."""

    device: str | None = None
    precision: Precision | None = None
    threads: int | None = None
    compiled: bool | None = None
    gradient_accumulation: int = 1


def cpu_count() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def autotune(
    request: ComputeRequest, build: Callable[[ComputeSettings], Run], source: Source, images: int, num_graphs: int = 1
) -> ComputeSettings:
    """Return the fastest settings within a request, found by timing a few steps.

    Args:
        request: what the user has decided.
        build: makes the run that is timed.
        source: its data.
        images: examples that the run will see; decides whether compilation pays.
        num_graphs: compilations that the run would need.

    Raises:
        UserError: for a device that is absent, or a compilation that cannot work.
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
    """Set this process's threads and memory as a run needs them.

    Raises:
        UserError: if the device is absent.
    """
    _check_device(compute.device)
    torch.set_num_threads(compute.threads)
    _keep_freed_memory()


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the device {device!r} is not available ({reason}): use the device cpu") from error


def _threads(request: ComputeRequest, device: str) -> list[int]:
    if request.threads is not None:
        return [request.threads]
    variable = os.environ.get("OMP_NUM_THREADS", "")
    if device != "cpu":
        return [torch.get_num_threads()]
    if variable.isdigit() and int(variable):
        return [int(variable)]
    return sorted({1, cpu_count()})


def _time(
    candidates: list[ComputeSettings], build: Callable[[ComputeSettings], Run], source: Source, images: int
) -> dict[ComputeSettings, float]:
    """Return the images per second of each candidate, at the stage where `images` ends.

    Candidates take turns and medians are compared, so that a disturbance of the machine decides nothing. A single candidate is
    timed too, to know how long the run will take.
    """
    before = torch.get_num_threads()
    run = build(candidates[0])
    stage = run.schedule.at(images)
    batch = source.take(0, stage.batch, stage.level).to(torch.device(candidates[0].device))
    seconds: dict[ComputeSettings, list[float]] = {compute: [] for compute in candidates}
    end = time.perf_counter() + TRIAL_SECONDS * len(candidates)
    for trial in range(TRIALS + 1):
        for compute in candidates:
            apply_compute_settings(compute)
            run.compute = compute
            start = time.perf_counter()
            _step(run, batch, stage)
            seconds[compute].append(time.perf_counter() - start)
        if trial and time.perf_counter() > end:
            break
    torch.set_num_threads(before)
    return {compute: stage.batch / median(times[1:]) for compute, times in seconds.items()}  # the first round warms up


def _step(run: Run, batch: Batch, stage: Stage) -> None:
    stage = run.enter_stage(stage)
    for phase in run.recipe.phases:
        train_phase(run, phase, batch, stage)
    run.ema.update(run.ema.weight(stage.batch, run.images))


def _can_compile() -> bool:
    """Return whether torch can compile here: it needs a C++ compiler, Python's headers, and torch 2.11 or newer."""
    if not hasattr(torch._dynamo.config, "trace_autograd_ops"):
        return False
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8))
    except Exception:  # noqa: BLE001 (whatever keeps it from compiling)
        return False
    return True


def _keep_freed_memory() -> None:
    """Ask glibc to keep freed memory.

    A training step frees and allocates the same large blocks again and again. Returning them in between costs page faults,
    up to a third of the time.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    for parameter, size in ((mmap_threshold, 1 << 30), (trim_threshold, (1 << 31) - 1), (top_pad, 64 << 20)):
        mallopt(parameter, size)
