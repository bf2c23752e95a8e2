"""A whole training: the loop, with a log, pictures and checkpoints, that can be stopped and taken up at any moment."""

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
CHECKS = 64
"""How many times it is looked at how a training goes."""


@dataclass(frozen=True)
class TrainingPlan:
    """How many images to see in all, at which of them to make pictures, and how many lie between lines of the log."""

    total: int
    pictures: tuple[int, ...]
    interval: int

    @staticmethod
    def of(total: int, pictures: tuple[int, ...] | None = None) -> TrainingPlan:
        return TrainingPlan(total, picture_milestones(total) if pictures is None else pictures, max(1, total // 1000))


def picture_milestones(total: int) -> tuple[int, ...]:
    """Where pictures are made by default: closer together at the beginning, where more happens."""
    return tuple(sorted({total * part // 64 for part in (0, 1, 4, 8, 16, 32, 48, 64)}))


@dataclass(frozen=True)
class Validator:
    """What is measured at regular intervals. every: images between two times. take: numbers for the log, by name, of the
    averaged model at the level that it has grown to. by: the one by which the best checkpoint is kept, as low or as high as
    may be."""

    interval: int
    measure: Callable[[LatentModel], Mapping[str, float]]
    metric: str
    better: Literal["low", "high"]


@dataclass(frozen=True)
class Status:
    """How a training is doing. record: a line of the log, when there is a new one. written: a picture, when there is one.
    warnings: what goes wrong, and what to do about it, when that has just been noticed."""

    images: int
    total: int
    images_per_second: float
    seconds_left: float
    record: dict[str, Any] | None = None
    picture: Path | None = None
    warnings: tuple[str, ...] = ()


@dataclass
class _Log:
    """Means of what the losses said since the last line, and how the training looks; kept in checkpoints, so that a resumed
    log is the same."""

    sums: dict[str, Any] = field(default_factory=dict)
    count: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    diagnosis: Diagnosis = field(default_factory=Diagnosis)
    looked: int = 0
    best: float | None = None

    @staticmethod
    def of(text: str) -> _Log:
        """As it was kept."""
        values = json.loads(text)
        return _Log(**{**values, "diagnosis": Diagnosis(**values.get("diagnosis", {}))})

    def add(self, tick: StepResult, seconds: float, cpu_seconds: float) -> None:
        self.seconds += seconds
        self.cpu_seconds += cpu_seconds
        for name, value in {**tick.losses, **tick.metrics}.items():
            old = self.sums.get(name)
            if isinstance(value, list):
                self.sums[name] = [a + b for a, b in zip(old or [0.0] * len(value), value, strict=True)]
            else:
                self.sums[name] = (old or 0.0) + value
        self.count += 1

    def line(self, run: Run) -> dict[str, Any]:
        means = {
            name: [v / self.count for v in value] if isinstance(value, list) else value / self.count
            for name, value in self.sums.items()
        }
        self.sums, self.count = {}, 0
        return {"images": run.images, "step": run.step, **self._spent(), **means}

    def look(
        self, run: Run, seen: TrainingData, tick: StepResult, record: dict[str, Any], plan: TrainingPlan
    ) -> tuple[str, ...]:
        """Now and then, add to a line what shows how the training goes; returns what goes wrong."""
        if run.images - self.looked < plan.total // CHECKS and run.images < plan.total:
            return ()
        self.looked = run.images
        rising = isinstance(run.recipe.loss_state, WarmUp) and run.recipe.loss_state.rising
        alike = len(run.recipe.phases) == 1 and not rising  # with an adversary, or a growing weight, it may well go up
        loss = sum(record[name] for name in tick.losses) if alike else None
        numbers, warnings = self.diagnosis.check(run, seen, tick.stage, record, loss)
        record |= numbers | ({"warnings": warnings} if warnings else {})
        return tuple(warnings)

    def watch(self, run: Run, watch: Validator, tick: StepResult, record: dict[str, Any]) -> bool:
        """Add to a line what is measured; returns whether the run is the best so far."""
        model = run.ema.model
        numbers = watch.measure(model.at(tick.stage) if isinstance(model, Grows) else model)
        record |= numbers
        value = numbers.get(watch.metric)
        if value is None or (self.best is not None and (value >= self.best if watch.better == "low" else value <= self.best)):
            return False
        self.best = value
        return True

    def _spent(self) -> dict[str, float]:
        return {"seconds": round(self.seconds, 3), "cpu_seconds": round(self.cpu_seconds, 3)}


def restore_latest(run: Run, folder: RunFolder) -> list[str]:
    """Restore the newest readable checkpoint, if there is one; returns what was wrong with newer ones."""
    found = folder.latest()
    if found is None:
        folder.rewind(-1)
        return []
    tensors, facts, problems = found
    run.restore(tensors, facts)
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

    shown: images for the pictures. stop: asked after every step; training is saved before it ends. watch: what is measured
    meanwhile, which then decides alone which checkpoint is the best.
    Raises: Diverged if a loss or a weight is not finite. OSError if the disk is full. The last good checkpoint stays.
    """
    log, pace = _restored(folder), _Pace(plan.total)
    pictured = {m for m in plan.pictures if m <= run.images} if run.images else set()
    saved_at = time.monotonic()
    if run.images == 0:
        yield from _picture(run, preview, folder, log, pace)
        pictured.add(0)
    if run.images >= plan.total:
        return
    for tick in train(run, source):
        seconds, cpu_seconds = pace.lap(run.images)
        log.add(tick, seconds, cpu_seconds)
        record: dict[str, Any] | None = None
        warnings: tuple[str, ...] = ()
        done = run.images >= plan.total
        due = validator is not None and (done or _passed(run.images, tick.stage.batch, validator.interval))
        if done or due or _passed(run.images, tick.stage.batch, plan.interval):
            record = log.line(run)
            warnings = log.look(run, TrainingData(source, preview), tick, record, plan)
            if validator is not None and due and log.watch(run, validator, tick, record):
                folder.save_best(run, validator.metric)
            elif validator is None and log.diagnosis.best_at == run.images:
                folder.save_best(run)
            folder.log(record)
        yield pace.status(run.images, record, warnings=warnings)
        stopping = stop()
        pictures = {m for m in plan.pictures if m <= run.images} - pictured
        pictured |= pictures
        if pictures or done:
            yield from _picture(run, preview, folder, log, pace)
        elif stopping or time.monotonic() - saved_at > SAVE_SECONDS:
            _save(run, folder, log, keep=False)
            saved_at = time.monotonic()
        pace.skip()
        if done or stopping:
            return


def _passed(images: int, batch: int, every: int) -> bool:
    """Whether the last batch has passed a multiple of some images."""
    return images // every > (images - batch) // every


def _picture(run: Run, shown: Source, folder: RunFolder, log: _Log, pace: _Pace) -> Iterator[Status]:
    """Draw the pictures, then keep a checkpoint beside them: killed in between, a run draws them once more."""
    run.check_finite()
    stage = run.stage_reached or run.schedule.at(0)
    written = draw_progress(folder.pictures, run.ema.model, shown, run.images, run.seed, stage)
    draw_curves(folder.pictures / "curves.png", folder.metrics())
    _save(run, folder, log, keep=True)
    yield pace.status(run.images, written=written)


def _save(run: Run, folder: RunFolder, log: _Log, keep: bool) -> None:
    folder.save(run, {"log": json.dumps(asdict(log))}, keep)


def _restored(folder: RunFolder) -> _Log:
    facts = folder.metadata()
    return _Log.of(facts["log"]) if facts and "log" in facts else _Log()


class _Pace:
    """Images per second of late, not counting what is done between steps."""

    def __init__(self, total: int) -> None:
        self.total, self.rate = total, 0.0
        self._images: int | None = None
        self.skip()

    def lap(self, images: int) -> tuple[float, float]:
        """Wall and CPU seconds since the last lap or skip."""
        wall, cpu = time.monotonic() - self._wall, time.process_time() - self._cpu
        if self._images is not None and wall > 0:
            rate = (images - self._images) / wall
            weight = min(1.0, wall / 5) if self.rate else 1.0  # a time constant of five seconds
            self.rate += weight * (rate - self.rate)
        self._images = images
        self.skip()
        return wall, cpu

    def skip(self) -> None:
        """Time until now was not spent on training."""
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def status(
        self,
        images: int,
        record: dict[str, Any] | None = None,
        written: Path | None = None,
        warnings: tuple[str, ...] = (),
    ) -> Status:
        left = (self.total - images) / self.rate if self.rate else float("nan")
        return Status(images, self.total, self.rate, max(left, 0.0), record, written, warnings)
