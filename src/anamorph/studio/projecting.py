"""Projection: codes are optimised until their image is close to a target, with pictures meanwhile."""

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

PICTURE_SECONDS = 0.08
"""Interval between two pictures of an optimisation."""


class Stopped(Exception):
    """The optimisation was cancelled, or its client has left."""


@dataclass(frozen=True)
class PreparedProjection:
    """The start of an optimisation.

    Args:
        model: decodes the codes.
        x: the target image [1, C, H, W].
        start: the first codes.
        statistics: of sampled codes, for the prior on codes; None: the model cannot sample.
    """

    model: LatentModel
    x: Tensor
    start: Codes
    statistics: CodeStatistics | None


@dataclass(frozen=True)
class RefinedPoint:
    """The result of an optimisation.

    Args:
        point: refers to the codes.
        codes: the optimised codes.
        before: mean squared error of the first image, of pixels in [-1, 1].
        after: that of the last image.
    """

    point: FromCodes
    codes: Codes
    before: float
    after: float


@torch.no_grad()
def prepare(bench: Bench, target: Point) -> PreparedProjection:
    """Prepare an optimisation, which starts at the encoder's codes, or, without an encoder, at the nearest of many samples.

    Raises:
        UserError: for a model of discrete codes, or one that can neither encode nor sample.
    """
    model = bench.model
    original = bench.original(target)
    x = bench.see([target]) if original is None else original
    if isinstance(model, Encodes):
        space = code_space(model)
        if space.num_codes is not None:
            raise UserError(
                f"{space.name!r} has discrete codes, which cannot be optimised by gradients: choose a model of real codes"
            )
        sampled = model.sample_codes(512, Seeded(0, "statistics"))[space.name] if isinstance(model, Samples) else None
        statistics = None if sampled is None else CodeStatistics.of(sampled)
        return PreparedProjection(model, x, bench.codes([target]), statistics)
    start, statistics = nearest_samples(require(model, Samples, "projecting an image"), x, Seeded(0, "project"))
    return PreparedProjection(model, x, start, statistics)


@contextmanager
def job_slot(jobs: threading.BoundedSemaphore) -> Iterator[None]:
    """Hold one of the slots for optimisations.

    Raises:
        UserError: if all are in use.
    """
    if not jobs.acquire(timeout=1):
        raise UserError("too many optimisations are running: try again when one has ended")
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
    """Optimise codes so that their image comes closer to the target.

    Args:
        prepared: the start and the target.
        free: what is optimised.
        steps: number of steps.
        stay: weight of the codes' prior.
        stop: ends the optimisation when it is set.
        show: called at intervals, with the image [C, H, W] and the number of the step.

    Raises:
        Stopped: if `stop` was set.
    """
    done, shown_at = 0, 0.0

    def show_image(image: Tensor, x: Tensor) -> Tensor:
        """Show the image of a step, at intervals. As a distance between images, it is always zero."""
        nonlocal shown_at
        if time.monotonic() - shown_at > PICTURE_SECONDS:
            shown_at = time.monotonic()
            show(image.detach()[0], done)
        return torch.zeros(len(x))

    def progress(step: int, total: int) -> None:
        nonlocal done
        done = step
        if stop.is_set():
            raise Stopped

    p = prepared
    result = project(
        p.model, p.x, p.start, free, steps, statistics=p.statistics, distance=show_image, prior_weight=stay, progress=progress
    )
    codes = {name: value.detach() for name, value in result.codes.items()}
    with torch.no_grad():
        first_images = p.model.decode(p.start)
    before, after = (squared_error(images.float(), p.x)[0] for images in (first_images, result.images))
    return RefinedPoint(FromCodes(digest=digest_of(codes)), codes, before, after)
