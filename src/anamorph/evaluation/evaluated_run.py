"""The input of an evaluation: a run's model, the data that it is compared with, and the feature networks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from anamorph.core.errors import UserError
from anamorph.core.fingerprint import fingerprint_of
from anamorph.core.model import LatentModel, level_of
from anamorph.core.progress import Progress, no_progress
from anamorph.core.signal import Batch, Image, Label, require_image
from anamorph.data.images import Images, images_of
from anamorph.data.open import ReadOptions, open_source, split_of
from anamorph.evaluation.networks import FeatureNetworks
from anamorph.run_data import has_held_out, open_data
from anamorph.runs import Settings, load, settings_of
from anamorph.training.folder import RunFolder

__all__ = [
    "DownsampledSource",
    "EvaluatedRun",
    "EvaluationData",
    "describe_run",
    "evaluated_run",
    "evaluation_data",
    "open_for_evaluation",
]

EDITION = 1
"""Version of the measures and their protocols; results of another version are not reused."""
MIN_HELD_OUT = 1000
"""Fewer held-out images than this, and than requested, are marked as few in the protocol."""


@dataclass(frozen=True)
class DownsampledSource:
    """A source at a lower level of resolution, in an order that is always the same."""

    source: Images
    level: int = 0

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def signal(self) -> Image:
        return self.source.signal.at(self.level)

    @property
    def size(self) -> int:
        return self.source.size

    @property
    def labels(self) -> tuple[Label, ...]:
        return self.source.labels

    @property
    def fingerprint(self) -> str:
        return f"{self.source.fingerprint}-{self.level}" if self.level else self.source.fingerprint

    def take(self, start: int, count: int, level: int = 0) -> Batch:
        return self.source.take(start, count, self.level + level)


@dataclass(frozen=True)
class EvaluationData:
    """The data that a model is held against: what it may have learned from, and what it has not. split: what the latter is."""

    train: DownsampledSource
    held_out: DownsampledSource
    split: str

    @property
    def real(self) -> DownsampledSource:
        """What stands for the data."""
        return self.held_out


@dataclass(frozen=True)
class EvaluatedRun:
    """A run as it is evaluated. images: how many it had seen. which: newest, or best (by what). n: of images and samples."""

    name: str
    path: Path
    settings: Settings
    model: LatentModel
    images: int
    which: str
    weights: str
    data: EvaluationData
    networks: FeatureNetworks
    n: int
    seed: int = 0

    @property
    def folder(self) -> Path:
        return RunFolder(self.path).evaluation

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def n_real(self) -> int:
        return min(self.n, self.data.held_out.size)

    @property
    def n_train(self) -> int:
        return min(self.n, self.data.train.size)

    @property
    def protocol(self) -> dict[str, Any]:
        """Everything but the model that determines the results."""
        return {
            "held": self.data.held_out.fingerprint,
            "train": self.data.train.fingerprint,
            "split": self.data.split,
            "n": self.n,
            "seed": self.seed,
            "edition": EDITION,
            "networks": [
                f"{n.name} {n.fingerprint}" for n in (self.networks.samples, self.networks.neighbours, self.networks.distance)
            ],
        }

    @property
    def key(self) -> str:
        """Identifies the model and everything else that determines the results."""
        text = json.dumps({"weights": self.weights, **self.protocol}, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def evaluation_data(
    settings: Settings, source: str | None, n: int, level: int = 0, progress: Progress = no_progress
) -> EvaluationData:
    """Return the images that a run is held against: its own, or those of another source, read as its own are.

    Raises: UserError if it has none, or they cannot be read.
    """
    if source is None:
        train, held = (images_of(open_data(settings, split, progress)) for split in ("train", "test"))
        apart = has_held_out(settings)
    else:
        options, requested_split = ReadOptions.like(require_image(settings.signal, "evaluating")), split_of(source)[1]
        parts = [images_of(open_source(source, options, split=split, progress=progress)) for split in ("train", "test")]
        (train, held), apart = parts, requested_split is None
    train, held = train.shuffled(), held.shuffled()
    name = f"{held.name}, {held.signal.at(level).height}x{held.signal.at(level).width}"
    if not apart:
        return EvaluationData(
            DownsampledSource(train, level), DownsampledSource(train, level), f"{name}, all images, none of them held out"
        )
    if held.size < min(n, MIN_HELD_OUT):
        return EvaluationData(
            DownsampledSource(train, level), DownsampledSource(held, level), f"{name}, {held.size} held-out images"
        )
    return EvaluationData(DownsampledSource(train, level), DownsampledSource(held, level), f"{name}, held out")


def evaluated_run(
    run: Path,
    data: EvaluationData,
    networks: FeatureNetworks,
    n: int,
    seed: int = 0,
    device: str = "cpu",
    model: LatentModel | None = None,
) -> EvaluatedRun:
    """Return a run as `load` gives it (or its model, loaded already), ready to be evaluated.

    Raises: UserError if it is no run, or images are of another size than its own.
    """
    if n < 2:
        raise UserError(f"measures need at least 2 images, got n={n} (--n): 10,000 make them stable")
    folder = RunFolder(run)
    settings = settings_of(folder)
    model = load(run, device) if model is None else model
    if model.signal != data.held_out.signal:
        raise UserError(f"{run} makes images of {model.signal}, and these are {data.held_out.signal}: read them alike")
    used = folder.checkpoint_in_use()
    return EvaluatedRun(
        Path(run).resolve().name,
        Path(run),
        settings,
        model,
        int(used["images"]),
        used["which"],
        fingerprint_of(model),
        data,
        networks,
        n,
        seed,
    )


def open_for_evaluation(
    run: Path, source: str | None, n: int, device: str = "cpu", progress: Progress = no_progress
) -> tuple[LatentModel, EvaluationData]:
    """Return a run's model, and the data that it is held against, at the level that it has grown to."""
    settings = settings_of(RunFolder(run))
    model = load(run, device)
    return model, evaluation_data(settings, source, n, level_of(model, settings.signal), progress)


def describe_run(subject: EvaluatedRun) -> Mapping[str, Any]:
    """Describe a run for evaluation.json."""
    return {
        "run": str(subject.path),
        "name": subject.name,
        "model": subject.settings.model,
        "images": subject.images,
        "of": subject.settings.images,
        "which": subject.which,
        "source": subject.data.held_out.name,
        "size": f"{subject.model.signal}",
        "parameters": sum(p.numel() for p in subject.model.parameters()),
        "weights": subject.weights,
    }
