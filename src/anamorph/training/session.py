"""A whole training: the loop with a log, pictures and checkpoints, which can be stopped and resumed at any moment."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from anamorph.core.model import Grows, LatentModel
from anamorph.core.signal import Source
from anamorph.nn.running_stats import WarmUp
from anamorph.training.diagnosis import Diagnosis, TrainingData
from anamorph.training.folder import RunFolder
from anamorph.training.loop import StepResult, train
from anamorph.training.pictures import draw_curves, draw_progress
from anamorph.training.run import Run

__all__ = ["Status", "TrainingPlan", "Validator", "picture_milestones", "restore_latest", "run_training"]

SAVE_SECONDS = 60.0
"""Between two checkpoints that are not kept."""
CHECKS = 64
"""Health checks per run."""


@dataclass(frozen=True)
class TrainingPlan:
    """When what is done in a training.

    Args:
        total: images to see in all.
        pictures: at how many images seen pictures are made.
        interval: images between two lines of the log.
    """

    total: int
    pictures: tuple[int, ...]
    interval: int

    @staticmethod
    def of(total: int, pictures: tuple[int, ...] | None = None) -> TrainingPlan:
        """Return the plan for a total of images; pictures None: at the default moments."""
        return TrainingPlan(total, picture_milestones(total) if pictures is None else pictures, max(1, total // 1000))


def picture_milestones(total: int) -> tuple[int, ...]:
    """Return when pictures are made by default: more often at the beginning, where more changes."""
    return tuple(sorted({total * part // 64 for part in (0, 1, 4, 8, 16, 32, 48, 64)}))


@dataclass(frozen=True)
class Validator:
    """A measurement at regular intervals while a run is trained.

    Args:
        interval: images between two measurements.
        measure: returns numbers for the log, by name, of the EMA model at the level that it has grown to.
        metric: the number by which the best checkpoint is kept.
        better: whether low or high values of it are better.
    """

    interval: int
    measure: Callable[[LatentModel], Mapping[str, float]]
    metric: str
    better: Literal["low", "high"]


@dataclass(frozen=True)
class Status:
    """The state of a training after a step.

    Args:
        images: images seen.
        total: images to see in all.
        images_per_second: the latest speed.
        seconds_left: until the end, at that speed.
        record: a new line of the log, if there is one.
        picture: a new picture, if there is one.
        warnings: problems that have just been noticed, each with a remedy.
    """

    images: int
    total: int
    images_per_second: float
    seconds_left: float
    record: dict[str, Any] | None = None
    picture: Path | None = None
    warnings: tuple[str, ...] = ()


@dataclass
class _Log:
    """Sums of what the losses returned since the last line, and the diagnosis; kept in checkpoints, so that a resumed log is
    the same."""

    sums: dict[str, Any] = field(default_factory=dict)
    count: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    diagnosis: Diagnosis = field(default_factory=Diagnosis)
    checked_at: int = 0
    best: float | None = None

    @staticmethod
    def of(text: str) -> _Log:
        """Read a log from the metadata of a checkpoint."""
        values = json.loads(text)
        return _Log(**{**values, "diagnosis": Diagnosis(**values.get("diagnosis", {}))})

    def add(self, result: StepResult, seconds: float, cpu_seconds: float) -> None:
        self.seconds += seconds
        self.cpu_seconds += cpu_seconds
        for name, value in {**result.losses, **result.metrics}.items():
            old = self.sums.get(name)
            if isinstance(value, list):
                self.sums[name] = [a + b for a, b in zip(old or [0.0] * len(value), value, strict=True)]
            else:
                self.sums[name] = (old or 0.0) + value
        self.count += 1

    def line(self, run: Run) -> dict[str, Any]:
        """Return a line of the log, and begin the next."""
        means = {
            name: [v / self.count for v in value] if isinstance(value, list) else value / self.count
            for name, value in self.sums.items()
        }
        self.sums, self.count = {}, 0
        spent = {"seconds": round(self.seconds, 3), "cpu_seconds": round(self.cpu_seconds, 3)}
        return {"images": run.images, "step": run.step, **spent, **means}

    def check(
        self, run: Run, data: TrainingData, result: StepResult, record: dict[str, Any], plan: TrainingPlan
    ) -> tuple[str, ...]:
        """Add the numbers of a health check to a line when one is due; return new warnings."""
        if run.images - self.checked_at < plan.total // CHECKS and run.images < plan.total:
            return ()
        self.checked_at = run.images
        rising = isinstance(run.recipe.loss_state, WarmUp) and run.recipe.loss_state.rising
        falls = len(run.recipe.phases) == 1 and not rising  # with an adversary, or a growing weight, it may well rise
        loss = sum(record[name] for name in result.losses) if falls else None
        numbers, warnings = self.diagnosis.check(run, data, result.stage, record, loss)
        record |= numbers | ({"warnings": warnings} if warnings else {})
        return tuple(warnings)

    def validate(self, run: Run, validator: Validator, result: StepResult, record: dict[str, Any]) -> bool:
        """Add the validator's numbers to a line; return whether the run is the best so far."""
        model = run.ema.model
        numbers = validator.measure(model.at(result.stage) if isinstance(model, Grows) else model)
        record |= numbers
        value = numbers.get(validator.metric)
        if value is None or (
            self.best is not None and (value >= self.best if validator.better == "low" else value <= self.best)
        ):
            return False
        self.best = value
        return True


def restore_latest(run: Run, folder: RunFolder) -> list[str]:
    """Restore the newest readable checkpoint, if there is one; return the problems of newer ones."""
    found = folder.latest()
    if found is None:
        folder.rewind(-1)
        return []
    tensors, metadata, problems = found
    run.restore(tensors, metadata)
    folder.rewind(run.images)
    return problems


def run_training(
    run: Run,
    source: Source,
    preview: Source,
    folder: RunFolder,
    plan: TrainingPlan,
    stop: Callable[[], bool] = lambda: False,
    validator: Validator | None = None,
) -> Iterator[Status]:
    """Train to the plan's total, from where the run is. Yields a status at every step.

    Args:
        run: the training.
        source: what it is trained on.
        preview: images for the pictures.
        folder: where all is written.
        plan: when what is written.
        stop: asked after every step; training is saved before it ends.
        validator: measures the run meanwhile, and then alone decides which checkpoint is the best.

    Raises:
        Diverged: if a loss or a weight is not finite; the last good checkpoint stays.
        OSError: if the disk is full; the last checkpoint stays.
    """
    log, speed = _restored(folder), _Speed(plan.total)
    pictured = {m for m in plan.pictures if m <= run.images} if run.images else set()
    saved_at = time.monotonic()
    if run.images == 0:
        run.initialise(source)
        yield from _picture(run, preview, folder, log, speed)
        pictured.add(0)
    if run.images >= plan.total:
        return
    for result in train(run, source):
        log.add(result, *speed.lap(run.images))
        record: dict[str, Any] | None = None
        warnings: tuple[str, ...] = ()
        done = run.images >= plan.total
        due = validator is not None and (done or _passed(run.images, result.stage.batch, validator.interval))
        if done or due or _passed(run.images, result.stage.batch, plan.interval):
            record = log.line(run)
            warnings = log.check(run, TrainingData(source, preview), result, record, plan)
            if validator is not None and due and log.validate(run, validator, result, record):
                folder.save_best(run, validator.metric)
            elif validator is None and log.diagnosis.best_at == run.images:
                folder.save_best(run)
            folder.log(record)
        yield speed.status(run.images, record, warnings=warnings)
        stopping = stop()
        pictures = {m for m in plan.pictures if m <= run.images} - pictured
        pictured |= pictures
        if pictures or done:
            yield from _picture(run, preview, folder, log, speed)
        elif stopping or time.monotonic() - saved_at > SAVE_SECONDS:
            _save(run, folder, log, keep=False)
            saved_at = time.monotonic()
        speed.skip()
        if done or stopping:
            return


def _passed(images: int, batch: int, interval: int) -> bool:
    """Return whether the last batch has passed a multiple of an interval in images."""
    return images // interval > (images - batch) // interval


def _picture(run: Run, preview: Source, folder: RunFolder, log: _Log, speed: _Speed) -> Iterator[Status]:
    """Draw the pictures, then keep a checkpoint beside them: a run that is killed in between draws them once more."""
    run.check_finite()
    stage = run.stage_reached or run.schedule.at(0)
    picture = draw_progress(folder.pictures, run.ema.model, preview, run.images, run.seed, stage)
    draw_curves(folder.pictures / "curves.png", folder.metrics())
    _save(run, folder, log, keep=True)
    yield speed.status(run.images, picture=picture)


def _save(run: Run, folder: RunFolder, log: _Log, keep: bool) -> None:
    folder.save(run, {"log": json.dumps(asdict(log))}, keep)


def _restored(folder: RunFolder) -> _Log:
    metadata = folder.metadata()
    return _Log.of(metadata["log"]) if metadata and "log" in metadata else _Log()


class _Speed:
    """The latest images per second, not counting what is done between steps."""

    def __init__(self, total: int) -> None:
        self.total, self.images_per_second = total, 0.0
        self._images: int | None = None
        self.skip()

    def lap(self, images: int) -> tuple[float, float]:
        """Return wall and CPU seconds since the last lap or skip."""
        wall, cpu = time.monotonic() - self._wall, time.process_time() - self._cpu
        if self._images is not None and wall > 0:
            latest = (images - self._images) / wall
            weight = min(1.0, wall / 5) if self.images_per_second else 1.0  # a time constant of five seconds
            self.images_per_second += weight * (latest - self.images_per_second)
        self._images = images
        self.skip()
        return wall, cpu

    def skip(self) -> None:
        """Leave out the time until now, which was not spent on training."""
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def status(
        self,
        images: int,
        record: dict[str, Any] | None = None,
        picture: Path | None = None,
        warnings: tuple[str, ...] = (),
    ) -> Status:
        left = (self.total - images) / self.images_per_second if self.images_per_second else float("nan")
        return Status(images, self.total, self.images_per_second, max(left, 0.0), record, picture, warnings)
