"""What a run is started with, as its config.json holds it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from anamorph.catalog import config_class
from anamorph.core.config import check, from_plain, to_plain
from anamorph.core.errors import UserError
from anamorph.core.signal import Signal
from anamorph.core.stage import Constant, Growing, LearningRateSchedule, Schedule, Scheduled
from anamorph.data.read_options import ReadOptions
from anamorph.training.folder import RunFolder
from anamorph.training.run import ComputeSettings
from anamorph.training.session import TrainingPlan

__all__ = ["Settings", "settings_of", "versions"]

NOTED = ("format", "created", "versions", "resumed", "config")
"""What config.json holds besides the settings; `config`, the model's own, is read apart."""


@dataclass(frozen=True)
class Settings:
    """All that is needed to make a run again, as config.json holds it.

    size, channels, upscale, rate, window, hop, names: how the source is read, as in `Wanted`.
    source: empty for a run that was imported, until it is given one. images: the total to train on. labels: those that come
    along; None for all. evaluate_every: images between two times that the run is measured while it is trained; None:
    never. best: the measure by which the best checkpoint is then kept; empty: a FID, or the error of reconstructions.
    pictures: at how many images seen; None for the default. growing: how a model grows, level by level; None: it stays at one
    `level` (halvings of its full size), with `batch`. codes_of: the folder of the run on whose codes a
    prior is trained, and first: what that run was started with; without, a prior is one over pixels. config: the model's own; a
    prior may have one for each level of codes.
    """

    model: str
    config: Any
    source: str
    signal: Signal
    fingerprint: str
    compute: ComputeSettings
    images: int
    size: tuple[int, int] | None = None
    channels: int | None = None
    upscale: bool = False
    sample_rate: int | None = None
    window: int | None = None
    hop: int | None = None
    name_pattern: str = ""
    labels: tuple[str, ...] | None = None
    mirror: bool = False
    batch: int = 128
    seed: int = 0
    pictures: tuple[int, ...] | None = None
    growing: Growing | None = None
    level: int = 0
    lr_schedule: LearningRateSchedule | None = None
    evaluate_every: int | None = None
    best_metric: str = ""
    codes_of: str = ""
    first_stage: Settings | None = None

    def __post_init__(self) -> None:
        check(self, "at least 1", "batch", *(["images"] if self.source else []))
        check(self, "at least 0", "images", "level")
        check(self, "at least 1", *(["evaluate_every"] if self.evaluate_every is not None else []))
        if not 0 <= self.seed < 2**63:
            raise UserError(f"a seed lies between 0 and 2^63, got {self.seed}")

    @property
    def read_options(self) -> ReadOptions:
        """How the source is read."""
        return ReadOptions(self.size, self.channels, self.upscale, self.sample_rate, self.window, self.hop, self.name_pattern)

    @property
    def schedule(self) -> Schedule:
        schedule: Schedule = self.growing or Constant(self.batch, self.level)
        return Scheduled(schedule, self.lr_schedule) if self.lr_schedule else schedule

    @property
    def plan(self) -> TrainingPlan:
        return TrainingPlan.of(self.images, self.pictures)

    def write(self, folder: RunFolder) -> None:
        created = datetime.now(UTC).isoformat(timespec="seconds")
        folder.write_config({**to_plain(self), "versions": versions(), "created": created})


def versions() -> dict[str, str]:
    """Of what decides a result to the last bit."""
    return {"anamorph": version("anamorph"), "torch": torch.__version__, "python": platform.python_version()}


def settings_of(folder: RunFolder) -> Settings:
    """What a run was started with.

    Raises: UserError if this is no run, or its config.json is not as it was written.
    """
    config = folder.config()
    return _settings(config, f"{folder}/config.json")


def _settings(config: Mapping[str, Any], where: str) -> Settings:
    values = {name: value for name, value in config.items() if name not in (*NOTED, "first_stage")}
    kind, held = config_class(str(config.get("model"))), config.get("config", {})
    many = held if isinstance(held, list) else [held]
    each = tuple(from_plain(kind, values, f"{where}: config") for values in many)
    model = each if isinstance(held, list) else each[0]
    first = config.get("first_stage")
    first_stage = None if first is None else _settings(first, f"{where}: first_stage")
    return from_plain(Settings, values, where, config=model, first_stage=first_stage)
