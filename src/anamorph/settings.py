"""Settings of a run, as its config.json holds them."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, TypedDict

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

__all__ = ["RunOptions", "Settings", "settings_of", "versions"]

OTHER_KEYS = ("format", "created", "versions", "resumed", "config")
"""Keys of config.json that are no plain settings; `config`, the settings of the model, is read apart."""


@dataclass(frozen=True)
class Settings:
    """Everything needed to reproduce a run, as config.json holds it.

    Args:
        model: name of the model or prior in the catalog.
        config: settings of the model; a prior may have a tuple, one for each level of codes.
        source: path or name of the data; empty for an imported run that has none yet.
        signal: shape of one example.
        fingerprint: identifies the examples, so that changed data are noticed.
        compute: device, precision, threads, compilation.
        images: total of examples to train on.
        size, channels, upscale, sample_rate, window, hop, name_pattern: how the source is read; see `ReadOptions`.
        labels: labels to read; None: all.
        mirror: whether images are flipped at random.
        batch: examples per step, where the model does not grow.
        seed: seed of all random numbers, 0 to 2^63 - 1.
        pictures: numbers of images seen at which pictures are drawn; None: the default ones.
        growing: how the model grows, level by level; None: it stays at one level.
        level: that level, in halvings of the full size.
        lr_schedule: warm-up and decay of the learning rate; None: constant.
        evaluate_every: images between two evaluations during training; None: never.
        best_metric: metric by which the best checkpoint is kept; empty: FID, or reconstruction error without samples.
        codes_of: folder of the run on whose codes a prior is trained; empty: the prior models pixels or samples.
        first_stage: settings of that run.
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
            raise UserError(f"a seed lies between 0 and 2^63 - 1, got {self.seed}")

    @property
    def read_options(self) -> ReadOptions:
        """Options for reading the source."""
        return ReadOptions(self.size, self.channels, self.upscale, self.sample_rate, self.window, self.hop, self.name_pattern)

    @property
    def schedule(self) -> Schedule:
        """Level, batch and learning rate as functions of the images seen."""
        schedule: Schedule = self.growing or Constant(self.batch, self.level)
        return Scheduled(schedule, self.lr_schedule) if self.lr_schedule else schedule

    @property
    def plan(self) -> TrainingPlan:
        """When to log, draw and stop."""
        return TrainingPlan.of(self.images, self.pictures)

    def write(self, folder: RunFolder) -> None:
        """Write config.json of a new run."""
        created = datetime.now(UTC).isoformat(timespec="seconds")
        folder.write_config({**to_plain(self), "versions": versions(), "created": created})


class RunOptions(TypedDict, total=False):
    """The fields of `Settings` that may be given for a new run and have a default."""

    labels: tuple[str, ...] | None
    mirror: bool
    batch: int
    seed: int
    pictures: tuple[int, ...] | None
    growing: Growing | None
    evaluate_every: int | None
    best_metric: str


def versions() -> dict[str, str]:
    """Return the versions of the software that results depend on, to the last bit."""
    return {"anamorph": version("anamorph"), "torch": torch.__version__, "python": platform.python_version()}


def settings_of(folder: RunFolder) -> Settings:
    """Read the settings of a run.

    Raises:
        UserError: if this is no run, or its config.json is damaged.
    """
    return _settings(folder.config(), f"{folder}/config.json")


def _settings(config: Mapping[str, Any], where: str) -> Settings:
    values = {name: value for name, value in config.items() if name not in (*OTHER_KEYS, "first_stage")}
    kind, plain = config_class(str(config.get("model"))), config.get("config", {})
    configs = tuple(from_plain(kind, one, f"{where}: config") for one in (plain if isinstance(plain, list) else [plain]))
    model_config = configs if isinstance(plain, list) else configs[0]
    first = config.get("first_stage")
    first_stage = None if first is None else _settings(first, f"{where}: first_stage")
    return from_plain(Settings, values, where, config=model_config, first_stage=first_stage)
