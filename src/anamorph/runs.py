"""Runs on disk: started, resumed, loaded."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from anamorph.catalog import PRIORS, build, build_with_prior, config_class
from anamorph.core.errors import UserError
from anamorph.core.model import Encodes, Grows, LatentModel, require
from anamorph.core.progress import Progress, no_progress
from anamorph.core.recipe import Recipe
from anamorph.core.signal import Image, Signal
from anamorph.core.stage import Growing, LearningRateSchedule
from anamorph.data.codes import CodeDataset, encode_dataset
from anamorph.data.dataset import Dataset
from anamorph.data.open import ReadOptions, absolute
from anamorph.data.read_options import to_samples
from anamorph.models.two_stage import TwoStageModel, identity_codec
from anamorph.run_data import open_data, open_source_of, preview_data
from anamorph.settings import Settings, settings_of, versions
from anamorph.training.autotune import ComputeRequest, apply_compute_settings, autotune
from anamorph.training.folder import RunFolder
from anamorph.training.run import ComputeSettings, Run, stage_of_checkpoint
from anamorph.training.session import Status, Validator, restore_latest, run_training

__all__ = [
    "Settings",
    "Training",
    "build_run_model",
    "load",
    "new_settings",
    "open_training",
    "resumed_settings",
    "settings_of",
    "train",
    "versions",
]


def new_settings(
    model: str,
    source: str,
    images: int,
    *,
    config: Any = None,
    read_options: ReadOptions | None = None,
    labels: tuple[str, ...] | None = None,
    mirror: bool = False,
    batch: int = 128,
    growing: Growing | None = None,
    lr_schedule: LearningRateSchedule | None = None,
    seed: int = 0,
    pictures: tuple[int, ...] | None = None,
    compute: ComputeRequest | None = None,
    codes_of: str = "",
    evaluate_every: int | None = None,
    best_metric: str = "",
    progress: Progress = no_progress,
) -> Settings:
    """Settings of a new run: opens the source to know its images, and finds out how this machine computes fastest.

    codes_of: the folder of the run whose codes a prior is to learn. lr_schedule: warm-up and decay of the learning rate; None:
    constant. A decay of no given length ends at `images`, also if the run is trained further later. evaluate_every,
    best_metric: see `Settings`.
    Raises: UserError for an unknown model, a source that cannot be read, or settings that do not fit it.
    """
    config = config_class(model)() if config is None else config
    first = _first_stage(model, codes_of, mirror)
    read_options = _options_of_first_stage(first, read_options or ReadOptions())
    settings = Settings(
        model=model,
        config=config,
        source=absolute(source),
        signal=Image(1, 1, 1),
        fingerprint="",
        compute=ComputeSettings(),
        images=images,
        labels=labels,
        mirror=mirror,
        batch=batch,
        seed=seed,
        pictures=pictures,
        growing=growing,
        lr_schedule=lr_schedule and lr_schedule.until(images),
        evaluate_every=evaluate_every,
        best_metric=best_metric,
        codes_of=_folder(codes_of),
        first_stage=first,
    )
    images_there = open_source_of(settings, read_options, "train", progress)
    settings = replace(_read_as(settings, read_options, images_there.signal), fingerprint=images_there.fingerprint)
    data = images_there if first is None else codes_of_run(codes_of, images_there, progress=progress)
    kinds = settings.schedule.num_graphs
    machine = autotune(compute or ComputeRequest(), lambda m: _run(replace(settings, compute=m), data), data, images, kinds)
    settings = replace(settings, compute=machine)
    _try(settings, data)
    return settings


def _options_of_first_stage(first: Settings | None, read_options: ReadOptions) -> ReadOptions:
    """Read a source as the first stage was, if there is one."""
    if first is None:
        return read_options
    like = ReadOptions.like(first.signal, first.upscale or read_options.upscale)
    return replace(like, hop=first.hop, name_pattern=read_options.name_pattern or first.name_pattern)


def _read_as(settings: Settings, wanted: ReadOptions, signal: Signal) -> Settings:
    """Settings that read a source as it was wanted and found; of sounds, in the very numbers that were found."""
    settings = replace(
        settings, signal=signal, channels=wanted.channels, upscale=wanted.upscale, name_pattern=wanted.name_pattern
    )
    if isinstance(signal, Image):
        return replace(settings, size=wanted.size)
    hop = None if wanted.hop is None else wanted.hop_length(signal)
    return replace(settings, channels=signal.channels, sample_rate=signal.sample_rate, window=signal.samples, hop=hop)


def _first_stage(model: str, codes_of: str, mirror: bool) -> Settings | None:
    """What the run was started with whose codes are to be learned.

    Raises: UserError if that is not what the model is for.
    """
    if not codes_of:
        return None
    if model not in PRIORS:
        raise UserError(f"--codes-of is for the priors {', '.join(PRIORS)}, which learn another model's codes; {model} is none")
    if mirror:
        raise UserError("codes are found once, of images as they are: leave out --mirror")
    return settings_of(RunFolder(codes_of))


def codes_of_run(
    codes_of: str, images: Dataset, model: LatentModel | None = None, progress: Progress = no_progress
) -> CodeDataset:
    """The codes of images, kept in the folder of the run whose model finds them (or of `model`, as it once was)."""
    model = load(codes_of) if model is None else model
    return encode_dataset(require(model, Encodes, "a prior"), images, Path(codes_of) / "codes", progress)


def resumed_settings(
    settings: Settings,
    images: int,
    compute: ComputeSettings,
    *,
    batch: int | None = None,
    source: str | None = None,
    progress: Progress = no_progress,
) -> Settings:
    """Settings to go on with: to a total of images, on a machine; with another batch, where the model does not grow. An
    imported run is given a source to train on, whose images are brought to its size.

    Raises: UserError if the run cannot take a batch, or has other images already, or these cannot be read or do not fit.
    """
    new = replace(settings, images=images, compute=compute)
    if batch is not None:
        if settings.growing:
            raise UserError("this run has a batch for each level, and stays so: divide them with --gradient-accumulation")
        new = replace(new, batch=batch)
    if source is not None and absolute(source) != settings.source:
        if settings.source:
            raise UserError(f"this run is trained on {settings.source} and stays so: start a new one for {source}")
        new = _read_as(replace(new, source=absolute(source)), ReadOptions.like(settings.signal), settings.signal)
    decisive = [(s.source, s.batch, s.compute.gradient_accumulation) for s in (settings, new)]
    if new.source and decisive[0] != decisive[1]:
        data = open_data(new, progress=progress)
        _try(new, data)
        new = new if settings.source else replace(new, fingerprint=data.fingerprint)
    return new


def _try(settings: Settings, data: Dataset | CodeDataset) -> None:
    """Build a run without memory: what does not go together should be told before anything is written."""
    with torch.device("meta"):
        _run(replace(settings, compute=replace(settings.compute, device="meta")), data)


def build_run_model(settings: Settings) -> tuple[LatentModel, Recipe]:
    """The model of a run, at its very beginning, and its recipe. A prior's comes with the model whose codes it is a law of."""
    device = settings.compute.device
    if settings.model not in PRIORS:
        return build(settings.model, settings.signal, settings.config, settings.seed, device)
    first = (
        identity_codec(settings.signal)
        if settings.first_stage is None
        else build_run_model(replace(settings.first_stage, compute=settings.compute))[0]
    )
    return build_with_prior(settings.model, require(first, Encodes, "a prior"), settings.config, settings.seed, device)


def _run(settings: Settings, data: Dataset | CodeDataset) -> Run:
    """A run on these images at its very beginning."""
    model, recipe = build_run_model(settings)
    _check_classes(model, data)
    if settings.growing:
        _check_growing(settings.growing, model)
    run = Run(model, recipe, settings.schedule, settings.seed, settings.compute)
    for batch in settings.growing.batches if settings.growing else (settings.batch,):
        run.check_batch(batch)
    return run


def _check_growing(growing: Growing, model: LatentModel) -> None:
    levels = int(math.log2(min(model.signal.shape[1:]))) - 1 if isinstance(model, Grows) else 1  # from 4 pixels up
    if len(growing.batches) > levels:
        raise UserError(
            f"{type(model).__name__} of {model.signal} has {levels} level{'s'[: levels > 1]} to grow through, and the schedule "
            f"has {len(growing.batches)}: leave the first ones out, or choose a larger --size"
        )


def _check_classes(model: LatentModel, data: Dataset | CodeDataset) -> None:
    there = {label.name: len(label.classes) for label in data.labels}
    for name, classes in model.classes.items():
        if there.get(name) != classes:
            has = ", ".join(f"{name} of {n}" for name, n in there.items() if n) or "none"
            raise UserError(
                f"the model learns images of a class, the label {name!r} of {classes}, and {data.name} has {has}: choose "
                f"--model.label and --model.num-classes to fit, or other images"
            )


@dataclass(frozen=True)
class Training:
    """A run with its data and its folder, ready to go on. shown: the images of its pictures. problems: what was wrong with
    checkpoints newer than the one used."""

    settings: Settings
    folder: RunFolder
    run: Run
    source: Dataset | CodeDataset
    preview: Dataset
    problems: tuple[str, ...]

    def run_to_end(self, stop: Callable[[], bool] = lambda: False, watch: Validator | None = None) -> Iterator[Status]:
        """Train to the settings' total; see `anamorph.training.session.pursue`."""
        return run_training(self.run, self.source, self.preview, self.folder, self.settings.plan, stop, watch)


def open_training(folder: RunFolder, progress: Progress = no_progress) -> Training:
    """A run from its folder, as far as it has come; its lock should be held.

    Raises: UserError if this is no run, its data have changed, its device is not there, or no checkpoint can be read.
    """
    settings = settings_of(folder)
    apply_compute_settings(settings.compute)
    source = open_data(settings, progress=progress)
    if source.fingerprint != settings.fingerprint:
        raise UserError(
            f"the images of {settings.source} are not those that {folder} was started on ({source.size} now): "
            f"bring them back, or start a new run"
        )
    run = _run(settings, source)
    problems = tuple(restore_latest(run, folder))
    if settings.first_stage is None:
        return Training(settings, folder, run, source, preview_data(settings), problems)
    if not folder.checkpoint_files():
        _copy_first(run, settings.codes_of)
    at = settings.codes_of if RunFolder(settings.codes_of).exists else str(folder)
    model = run.model
    assert isinstance(model, TwoStageModel)
    return Training(
        settings, folder, run, codes_of_run(at, source, model.first_stage, progress), preview_data(settings), problems
    )


def _copy_first(run: Run, codes_of: str) -> None:
    """Give a prior's run a copy of the model whose codes it learns: it never changes, whatever becomes of the original."""
    weights = load(codes_of).state_dict()
    for model in (run.model, run.ema.model):
        assert isinstance(model, TwoStageModel)
        model.first_stage.load_state_dict(weights)


def train(
    model: str,
    source: str,
    images: int,
    out: str | Path,
    *,
    config: Any = None,
    seed: int = 0,
    batch: int = 128,
    growing: Growing | None = None,
    size: tuple[int, int] | None = None,
    read_options: ReadOptions | None = None,
    codes_of: str | Path = "",
) -> Iterator[Status]:
    """Train a model on a source, in a folder; goes on where an earlier call was stopped. Yields a status at every step.

    config: the model's settings; None for its defaults, or those that the run in the folder has. growing: how it grows, level
    by level (`anamorph.presets` has a config and a growth that go together). size: of the images; None: as they are.
    wanted: all of how a new run's source is read, such as the window of sounds. codes_of: of a prior, the folder of the run
    whose codes it learns.
    Raises: UserError if the folder holds another run, or for anything that cannot be trained.
    """
    folder = RunFolder(out)
    with folder.locked():
        if folder.exists:
            old = settings_of(folder)
            asked = {
                "model": model,
                "source": absolute(source),
                "seed": seed,
                "batch": batch,
                "growing": growing,
                "codes_of": _folder(codes_of),
            }
            asked |= {"config": config} if config is not None else {}
            asked |= (
                _said(read_options, old) if read_options else {} if codes_of else {"size": size}
            )  # a prior's size is its first stage's
            other = [f"{name} {getattr(old, name)}" for name, value in asked.items() if getattr(old, name) != value]
            if other or images < old.images:
                raise UserError(
                    f"{folder} holds a run of {', '.join(other) or f'{old.images:,} images'}, which is not what was asked "
                    f"for: choose another folder, or ask for the same"
                )
            folder.update_config({"images": images})
        else:
            new_settings(
                model,
                source,
                images,
                config=config,
                seed=seed,
                batch=batch,
                growing=growing,
                read_options=read_options or ReadOptions(size),
                codes_of=str(codes_of),
            ).write(folder)
        yield from open_training(folder).run_to_end()


def _said(wanted: ReadOptions, old: Settings) -> dict[str, Any]:
    """What is said of how a source is read; lengths in samples at the rate that a run has."""
    said = {f.name: getattr(wanted, f.name) for f in fields(wanted) if getattr(wanted, f.name) != f.default}
    rate = getattr(old.signal, "sample_rate", 1)
    return {name: to_samples(v, rate, name) if name in ("window", "hop") else v for name, v in said.items()}


def _folder(codes_of: str | Path) -> str:
    return str(Path(codes_of).absolute()) if codes_of else ""


def load(path: str | Path, device: str = "cpu", images: int | None = None) -> LatentModel:
    """The model of a run, with averaged weights, as far as it has been trained; a growing one at the level it had reached.

    images: as it was when it had seen so many (`RunFolder.kept` tells when that was noted); None: as it is now, or, where
    that was looked at, as it was when it did best on held-out data (`RunFolder.used` tells which of the two, and by what).
    Raises: UserError if there is no run, or it has no such checkpoint that can be read.
    """
    folder = RunFolder(path)
    settings = settings_of(folder)
    found = folder.latest(images, best=images is None)
    if found is None:
        raise UserError(f"{folder} has no checkpoint yet: train it a little with `anamorph resume {folder}`")
    for problem in found[2]:
        warnings.warn(f"an older checkpoint is used: {problem}", stacklevel=2)
    model, _ = build_run_model(replace(settings, compute=ComputeSettings()))
    weights = {name.removeprefix("ema/"): t for name, t in found[0].items() if name.startswith("ema/")}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"the checkpoint of {folder} does not fit its model: {error}") from error
    model = model.requires_grad_(False).eval().to(device)
    stage = stage_of_checkpoint(json.loads(found[1]["progress"]), settings.schedule)
    return model.at(stage) if isinstance(model, Grows) else model
