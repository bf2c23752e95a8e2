"""Refining codes by optimisation, with pictures on the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.model import Encodes, LatentModel, Samples, code_space, require
from anamorph.core.random import Seeded
from anamorph.core.space import Codes
from anamorph.edit.project import CodeStatistics, OptimisedSpace, nearest_samples, project
from anamorph.studio.bench import Bench
from anamorph.studio.image_media import squared_error
from anamorph.studio.points import FromCodes, Point
from anamorph.studio.stores import digest_of

__all__ = ["PreparedProjection", "RefinedPoint", "Stopped", "job_slot", "prepare", "refine"]

EVERY_SECONDS = 0.08
"""Between two pictures of an optimisation."""


class Stopped(Exception):
    """Nobody waits for the optimisation any more."""


@dataclass(frozen=True)
class PreparedProjection:
    """Where an optimisation starts, and the image [1, C, H, W] that it goes to."""

    model: LatentModel
    x: Tensor
    start: Codes
    law: CodeStatistics | None


@dataclass(frozen=True)
class RefinedPoint:
    """What was found, its codes, and the mean squared error (pixels in [-1, 1]) of the start's image and of its own."""

    point: FromCodes
    codes: Codes
    before: float
    after: float


@torch.no_grad()
def prepare(bench: Bench, target: Point) -> PreparedProjection:
    """From what the encoder answers, or, without one, from the nearest of many drawn images."""
    model = bench.model
    image = bench.original(target)
    x = bench.see([target]) if image is None else image
    if isinstance(model, Encodes):
        space = code_space(model)
        if space.num_codes is not None:
            raise UserError(f"codes of {space} are whole numbers: they cannot be moved little by little")
        law = CodeStatistics.of(model.sample_codes(512, Seeded(0, "law"))[space.name]) if isinstance(model, Samples) else None
        return PreparedProjection(model, x, bench.codes([target]), law)
    start, law = nearest_samples(require(model, Samples, "projecting an image"), x, Seeded(0, "project"))
    return PreparedProjection(model, x, start, law)


@contextmanager
def job_slot(jobs: threading.BoundedSemaphore) -> Iterator[None]:
    """Raises: UserError if as many optimisations as may run at once are running."""
    if not jobs.acquire(timeout=1):
        raise UserError("other optimisations are running: try again when they have ended")
    try:
        yield
    finally:
        jobs.release()


def refine(
    prepared: PreparedProjection,
    free: OptimisedSpace,
    steps: int,
    stay: float,
    stop: threading.Event,
    show: Callable[[Tensor, int], None] = lambda image, step: None,
) -> RefinedPoint:
    """Codes moved so that their image comes closer. show: told of the image [C, H, W] and the step, now and then.

    Raises: Stopped, when that was asked for.
    """
    done, shown = 0, 0.0

    def watch(image: Tensor, x: Tensor) -> Tensor:
        """A distance that is nothing: it only sees each step's image."""
        nonlocal shown
        if time.monotonic() - shown > EVERY_SECONDS:
            shown = time.monotonic()
            show(image.detach()[0], done)
        return torch.zeros(len(x))

    def progress(step: int, total: int) -> None:
        nonlocal done
        done = step
        if stop.is_set():
            raise Stopped

    p = prepared
    found = project(p.model, p.x, p.start, free, steps, statistics=p.law, distance=watch, prior_weight=stay, progress=progress)
    codes = {name: value.detach() for name, value in found.codes.items()}
    with torch.no_grad():
        started = p.model.decode(p.start)
    before, after = (squared_error(images.float(), p.x)[0] for images in (started, found.images))
    return RefinedPoint(FromCodes(digest=digest_of(codes)), codes, before, after)
