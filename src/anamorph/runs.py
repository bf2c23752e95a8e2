"""Start, resume and load runs on disk."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Unpack

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
from anamorph.figures import display  # noqa: F401 (so that notebooks show batches as pictures)
from anamorph.models.two_stage import TwoStageModel, identity_codec
from anamorph.run_data import open_data, open_source_of, preview_data
from anamorph.settings import RunOptions, Settings, settings_of, versions
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
    "versions",
]


def new_settings(
    model: str,
    source: str,
    images: int,
    *,
    config: Any = None,
    read_options: ReadOptions | None = None,
    codes_of: str = "",
    lr_schedule: LearningRateSchedule | None = None,
    compute: ComputeRequest | None = None,
    progress: Progress = no_progress,
    **options: Unpack[RunOptions],
) -> Settings:
    """Make the settings of a new run: open its source, and time which way of computing is fastest here.

    Args:
        model: name of a model or a prior of the catalog.
        source: name or path of the data.
        images: examples to see in all.
        config: the model's own settings; None: its defaults.
        read_options: how the source is read; of a prior, as its first stage's was.
        codes_of: of a prior, the folder of the run whose codes it learns.
        lr_schedule: warm-up and decay of the learning rate; None: constant. A decay of no given length ends at `images`, also
            if the run is trained further later.
        compute: what is already decided about the computation.
        progress: called while the data are read.
        options: further fields of `Settings`.

    Raises:
        UserError: for an unknown model, a source that cannot be read, or settings that do not fit it.
    """
    first = _first_stage(model, codes_of, options.get("mirror", False))
    read_options = _read_alike(first, read_options or ReadOptions())
    settings = Settings(
        model=model,
        config=config_class(model)() if config is None else config,
        source=absolute(source),
        signal=Image(1, 1, 1),
        fingerprint="",
        compute=ComputeSettings(),
        images=images,
        lr_schedule=lr_schedule and lr_schedule.until(images),
        codes_of=_folder(codes_of),
        first_stage=first,
        **options,
    )
    dataset = open_source_of(settings, read_options, "train", progress)
    settings = replace(_read_as(settings, read_options, dataset.signal), fingerprint=dataset.fingerprint)
    data = dataset if first is None else codes_of_run(codes_of, dataset, progress=progress)
    graphs = settings.schedule.num_graphs
    chosen = autotune(compute or ComputeRequest(), lambda c: _run(replace(settings, compute=c), data), data, images, graphs)
    settings = replace(settings, compute=chosen)
    _try(settings, data)
    return settings


def _read_alike(first: Settings | None, options: ReadOptions) -> ReadOptions:
    """Return how the data of a prior are read: as those of the model whose codes it learns."""
    if first is None:
        return options
    like = ReadOptions.like(first.signal, first.upscale or options.upscale)
    return replace(like, hop=first.hop, name_pattern=options.name_pattern or first.name_pattern)


def _read_as(settings: Settings, options: ReadOptions, signal: Signal) -> Settings:
    """Return settings that read a source by some options; for sounds, with the numbers that the source was opened with."""
    settings = replace(
        settings, signal=signal, channels=options.channels, upscale=options.upscale, name_pattern=options.name_pattern
    )
    if isinstance(signal, Image):
        return replace(settings, size=options.size)
    hop = None if options.hop is None else options.hop_length(signal)
    return replace(settings, channels=signal.channels, sample_rate=signal.sample_rate, window=signal.samples, hop=hop)


def _first_stage(model: str, codes_of: str, mirror: bool) -> Settings | None:
    """Return the settings of the run whose codes are to be learned; None without one.

    Raises:
        UserError: if the model is no prior, or its images were to be flipped.
    """
    if not codes_of:
        return None
    if model not in PRIORS:
        raise UserError(
            f"the codes of a run are learned by a prior ({', '.join(PRIORS)}), and {model} is none: leave out codes-of"
        )
    if mirror:
        raise UserError("images are encoded once, as they are, and cannot be flipped: leave out mirror")
    return settings_of(RunFolder(codes_of))


def codes_of_run(
    codes_of: str, images: Dataset, model: LatentModel | None = None, progress: Progress = no_progress
) -> CodeDataset:
    """Encode images by a run's model, or by `model`, a copy of it; codes are cached in the run's folder."""
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
    """Change the settings of a run that goes on.

    Args:
        settings: those of the run.
        images: the new total.
        compute: how it computes from now on.
        batch: a new batch, for a model that does not grow.
        source: of an imported run, the data to train on, which are brought to its size.
        progress: called while the data are read.

    Raises:
        UserError: if the run cannot take the batch, has other data already, or the data cannot be read or do not fit.
    """
    new = replace(settings, images=images, compute=compute)
    if batch is not None:
        if settings.growing:
            raise UserError(
                "this run has a batch for each level, which cannot be changed: divide it with gradient-accumulation"
            )
        new = replace(new, batch=batch)
    if source is not None and absolute(source) != settings.source:
        if settings.source:
            raise UserError(f"this run is trained on {settings.source} which cannot be changed: start a new run for {source}")
        new = _read_as(replace(new, source=absolute(source)), ReadOptions.like(settings.signal), settings.signal)
    decisive = [(s.source, s.batch, s.compute.gradient_accumulation) for s in (settings, new)]
    if new.source and decisive[0] != decisive[1]:
        data = open_data(new, progress=progress)
        _try(new, data)
        new = new if settings.source else replace(new, fingerprint=data.fingerprint)
    return new


def _try(settings: Settings, data: Dataset | CodeDataset) -> None:
    """Build a run without memory, so that settings which do not fit are reported before anything is written."""
    with torch.device("meta"):
        _run(replace(settings, compute=replace(settings.compute, device="meta")), data)


def build_run_model(settings: Settings) -> tuple[LatentModel, Recipe]:
    """Build the untrained model of a run, and its recipe; that of a prior contains the model whose codes it learns."""
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
    """Build an untrained run on some data."""
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
            f"has {len(growing.batches)}: leave out the first ones, or choose a larger size"
        )


def _check_classes(model: LatentModel, data: Dataset | CodeDataset) -> None:
    labels = {label.name: len(label.classes) for label in data.labels}
    for name, classes in model.classes.items():
        if labels.get(name) != classes:
            has = ", ".join(f"{name} of {n}" for name, n in labels.items() if n) or "none"
            raise UserError(
                f"the model is conditioned on the label {name!r} of {classes} classes, and {data.name} has {has}: set the "
                f"model's label and num-classes to fit, or choose other data"
            )


@dataclass(frozen=True)
class Training:
    """A run with its data and its folder, ready to go on.

    Args:
        settings: what it was started with.
        folder: where it is written.
        run: the training, as far as it has come.
        source: what it is trained on.
        preview: images for its pictures.
        problems: what is wrong with checkpoints newer than the one used.
    """

    settings: Settings
    folder: RunFolder
    run: Run
    source: Dataset | CodeDataset
    preview: Dataset
    problems: tuple[str, ...]

    def run_to_end(self, stop: Callable[[], bool] = lambda: False, validator: Validator | None = None) -> Iterator[Status]:
        """Train to the settings' total; see `anamorph.training.session.run_training`."""
        return run_training(self.run, self.source, self.preview, self.folder, self.settings.plan, stop, validator)


def open_training(folder: RunFolder, progress: Progress = no_progress) -> Training:
    """Open a run from its folder, as far as it has come; the caller holds the folder's lock.

    Raises:
        UserError: if this is no run, its data have changed, its device is absent, or no checkpoint can be read.
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
    """Copy the model whose codes a prior learns into the prior's run, so that later changes of the original do not matter."""
    weights = load(codes_of).state_dict()
    for model in (run.model, run.ema.model):
        assert isinstance(model, TwoStageModel)
        model.first_stage.load_state_dict(weights)


def _folder(codes_of: str | Path) -> str:
    return str(Path(codes_of).absolute()) if codes_of else ""


def load(path: str | PathLike[str], device: str = "cpu", images: int | None = None) -> LatentModel:
    """Load the model of a run, with averaged weights; a growing one at the level that it had reached.

    Args:
        path: the run's folder.
        device: where the model is to be.
        images: load the checkpoint that had seen this many images (see `RunFolder.checkpoint_images`). None: the one that was
            best on held-out data where that was measured, else the newest (see `RunFolder.checkpoint_in_use`).

    Raises:
        UserError: if there is no run, or it has no such checkpoint that can be read.
    """
    folder = RunFolder(path)
    settings = settings_of(folder)
    found = folder.latest(images, best=images is None)
    if found is None:
        raise UserError(f"{folder} has no checkpoint yet: train it a little with `anamorph resume {folder}`")
    for problem in found[2]:
        warnings.warn(f"an older checkpoint is loaded: {problem}", stacklevel=2)
    model, _ = build_run_model(replace(settings, compute=ComputeSettings()))
    weights = {name.removeprefix("ema/"): t for name, t in found[0].items() if name.startswith("ema/")}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"the checkpoint of {folder} does not fit its model: {error}") from error
    model = model.requires_grad_(False).eval().to(device)
    stage = stage_of_checkpoint(json.loads(found[1]["progress"]), settings.schedule)
    return model.at(stage) if isinstance(model, Grows) else model
