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
from anamorph.core.progress import Progress, quiet
from anamorph.core.recipe import Recipe
from anamorph.core.signal import Image, Signal
from anamorph.core.stage import Growing
from anamorph.data.codes import CodesOf, extract
from anamorph.data.examples import Examples
from anamorph.data.open import Wanted, absolute, open_source, split_of
from anamorph.data.wanted import samples_in
from anamorph.priors.compose import WithPrior, itself
from anamorph.settings import Settings, settings_of, versions
from anamorph.training.folder import RunFolder
from anamorph.training.machine import Choice, choose, settle
from anamorph.training.run import Machine, Run, reached
from anamorph.training.session import Status, Watch, pursue, take_up

__all__ = [
    "Settings",
    "Training",
    "built",
    "changed",
    "class_names",
    "holds_out",
    "load",
    "new_settings",
    "open_data",
    "open_training",
    "settings_of",
    "shown",
    "train",
    "versions",
]


def open_data(settings: Settings, split: str = "train", progress: Progress = quiet) -> Examples:
    """The images or sounds that a run trains on, or those that are held out from it (test).

    Raises: UserError if the run was imported and has none, or they cannot be read.
    """
    if not settings.source:
        raise UserError(
            "this run was imported, and has no images of its own: name files, or give it some with "
            "`anamorph resume RUN --source SOURCE --images TOTAL`"
        )
    return _opened(settings, settings.wanted, split, progress)


def _opened(settings: Settings, wanted: Wanted, split: str, progress: Progress) -> Examples:
    spec = settings.source if split == "train" else split_of(settings.source)[0]
    source = open_source(spec, wanted, split=split, seed=settings.seed, mirror=settings.mirror, progress=progress)
    return source if settings.labels is None else source.with_labels(settings.labels)


def holds_out(settings: Settings) -> bool:
    """Whether a run leaves images out of its training: not if its source was named with :all or :test."""
    return split_of(settings.source)[1] in (None, "train")


def shown(settings: Settings) -> Examples:
    """The images or sounds that a run's pictures show and `data:12` names: held-out ones, where there are any."""
    return open_data(settings, "test" if holds_out(settings) else "train").shuffled()


def new_settings(
    model: str,
    source: str,
    images: int,
    *,
    config: Any = None,
    wanted: Wanted | None = None,
    labels: tuple[str, ...] | None = None,
    mirror: bool = False,
    batch: int = 128,
    growing: Growing | None = None,
    seed: int = 0,
    pictures: tuple[int, ...] | None = None,
    choice: Choice | None = None,
    codes_of: str = "",
    evaluate_every: int | None = None,
    best: str = "",
    progress: Progress = quiet,
) -> Settings:
    """Settings of a new run: opens the source to know its images, and finds out how this machine computes fastest.

    codes_of: the folder of the run whose codes a prior is to learn. evaluate_every, best: see `Settings`.
    Raises: UserError for an unknown model, a source that cannot be read, or settings that do not fit it.
    """
    config = config_class(model)() if config is None else config
    first = _first_stage(model, codes_of, mirror)
    wanted = wanted or Wanted()
    if first is not None:
        like = Wanted.like(first.signal, first.upscale or wanted.upscale)
        wanted = replace(like, hop=first.hop, names=wanted.names or first.names)
    settings = Settings(
        model=model,
        config=config,
        source=absolute(source),
        signal=Image(1, 1, 1),
        fingerprint="",
        machine=Machine(),
        images=images,
        labels=labels,
        mirror=mirror,
        batch=batch,
        seed=seed,
        pictures=pictures,
        growing=growing,
        evaluate_every=evaluate_every,
        best=best,
        codes_of=_folder(codes_of),
        first=first,
    )
    images_there = _opened(settings, wanted, "train", progress)
    settings = replace(_read_as(settings, wanted, images_there.signal), fingerprint=images_there.fingerprint)
    data = images_there if first is None else codes_in(codes_of, images_there, progress=progress)
    kinds = settings.schedule.kinds
    machine = choose(choice or Choice(), lambda m: _run(replace(settings, machine=m), data), data, images, kinds)
    settings = replace(settings, machine=machine)
    _try(settings, data)
    return settings


def _read_as(settings: Settings, wanted: Wanted, signal: Signal) -> Settings:
    """Settings that read a source as it was wanted and found; of sounds, in the very numbers that were found."""
    settings = replace(settings, signal=signal, channels=wanted.channels, upscale=wanted.upscale, names=wanted.names)
    if isinstance(signal, Image):
        return replace(settings, size=wanted.size)
    hop = None if wanted.hop is None else wanted.step(signal)
    return replace(settings, channels=signal.channels, rate=signal.rate, window=signal.samples, hop=hop)


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


def codes_in(codes_of: str, images: Examples, model: LatentModel | None = None, progress: Progress = quiet) -> CodesOf:
    """The codes of images, kept in the folder of the run whose model finds them (or of `model`, as it once was)."""
    model = load(codes_of) if model is None else model
    return extract(require(model, Encodes, "a prior"), images, Path(codes_of) / "codes", progress)


def changed(
    settings: Settings,
    images: int,
    machine: Machine,
    *,
    batch: int | None = None,
    source: str | None = None,
    progress: Progress = quiet,
) -> Settings:
    """Settings to go on with: to a total of images, on a machine; with another batch, where the model does not grow. An
    imported run is given a source to train on, whose images are brought to its size.

    Raises: UserError if the run cannot take a batch, or has other images already, or these cannot be read or do not fit.
    """
    new = replace(settings, images=images, machine=machine)
    if batch is not None:
        if settings.growing:
            raise UserError("this run has a batch for each level, and stays so: divide them with --parts")
        new = replace(new, batch=batch)
    if source is not None and absolute(source) != settings.source:
        if settings.source:
            raise UserError(f"this run is trained on {settings.source} and stays so: start a new one for {source}")
        new = _read_as(replace(new, source=absolute(source)), Wanted.like(settings.signal), settings.signal)
    decisive = [(s.source, s.batch, s.machine.parts) for s in (settings, new)]
    if new.source and decisive[0] != decisive[1]:
        data = open_data(new, progress=progress)
        _try(new, data)
        new = new if settings.source else replace(new, fingerprint=data.fingerprint)
    return new


def _try(settings: Settings, data: Examples | CodesOf) -> None:
    """Build a run without memory: what does not go together should be told before anything is written."""
    with torch.device("meta"):
        _run(replace(settings, machine=replace(settings.machine, device="meta")), data)


def built(settings: Settings) -> tuple[LatentModel, Recipe]:
    """The model of a run, at its very beginning, and its recipe. A prior's comes with the model whose codes it is a law of."""
    device = settings.machine.device
    if settings.model not in PRIORS:
        return build(settings.model, settings.signal, settings.config, settings.seed, device)
    first = itself(settings.signal) if settings.first is None else built(replace(settings.first, machine=settings.machine))[0]
    return build_with_prior(settings.model, require(first, Encodes, "a prior"), settings.config, settings.seed, device)


def _run(settings: Settings, data: Examples | CodesOf) -> Run:
    """A run on these images at its very beginning."""
    model, recipe = built(settings)
    _check_classes(model, data)
    if settings.growing:
        _check_growing(settings.growing, model)
    run = Run(model, recipe, settings.schedule, settings.seed, settings.machine)
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


def _check_classes(model: LatentModel, data: Examples | CodesOf) -> None:
    there = {label.name: len(label.classes) for label in data.labels}
    for name, classes in model.classes.items():
        if there.get(name) != classes:
            has = ", ".join(f"{name} of {n}" for name, n in there.items() if n) or "none"
            raise UserError(
                f"the model learns images of a class, the label {name!r} of {classes}, and {data.name} has {has}: choose "
                f"--model.label and --model.classes to fit, or other images"
            )


@dataclass(frozen=True)
class Training:
    """A run with its data and its folder, ready to go on. shown: the images of its pictures. problems: what was wrong with
    checkpoints newer than the one used."""

    settings: Settings
    folder: RunFolder
    run: Run
    source: Examples | CodesOf
    shown: Examples
    problems: tuple[str, ...]

    def pursue(self, stop: Callable[[], bool] = lambda: False, watch: Watch | None = None) -> Iterator[Status]:
        """Train to the settings' total; see `anamorph.training.session.pursue`."""
        return pursue(self.run, self.source, self.shown, self.folder, self.settings.plan, stop, watch)


def open_training(folder: RunFolder, progress: Progress = quiet) -> Training:
    """A run from its folder, as far as it has come; its lock should be held.

    Raises: UserError if this is no run, its data have changed, its device is not there, or no checkpoint can be read.
    """
    settings = settings_of(folder)
    settle(settings.machine)
    source = open_data(settings, progress=progress)
    if source.fingerprint != settings.fingerprint:
        raise UserError(
            f"the images of {settings.source} are not those that {folder} was started on ({source.size} now): "
            f"bring them back, or start a new run"
        )
    run = _run(settings, source)
    problems = tuple(take_up(run, folder))
    if settings.first is None:
        return Training(settings, folder, run, source, shown(settings), problems)
    if not folder.saved():
        _copy_first(run, settings.codes_of)
    at = settings.codes_of if RunFolder(settings.codes_of).exists else str(folder)
    model = run.model
    assert isinstance(model, WithPrior)
    return Training(settings, folder, run, codes_in(at, source, model.first, progress), shown(settings), problems)


def _copy_first(run: Run, codes_of: str) -> None:
    """Give a prior's run a copy of the model whose codes it learns: it never changes, whatever becomes of the original."""
    weights = load(codes_of).state_dict()
    for model in (run.model, run.average.model):
        assert isinstance(model, WithPrior)
        model.first.load_state_dict(weights)


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
    wanted: Wanted | None = None,
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
            asked |= _said(wanted, old) if wanted else {} if codes_of else {"size": size}  # a prior's size is its first stage's
            other = [f"{name} {getattr(old, name)}" for name, value in asked.items() if getattr(old, name) != value]
            if other or images < old.images:
                raise UserError(
                    f"{folder} holds a run of {', '.join(other) or f'{old.images:,} images'}, which is not what was asked "
                    f"for: choose another folder, or ask for the same"
                )
            folder.amend({"images": images})
        else:
            new_settings(
                model,
                source,
                images,
                config=config,
                seed=seed,
                batch=batch,
                growing=growing,
                wanted=wanted or Wanted(size),
                codes_of=str(codes_of),
            ).write(folder)
        yield from open_training(folder).pursue()


def _said(wanted: Wanted, old: Settings) -> dict[str, Any]:
    """What is said of how a source is read; lengths in samples at the rate that a run has."""
    said = {f.name: getattr(wanted, f.name) for f in fields(wanted) if getattr(wanted, f.name) != f.default}
    rate = getattr(old.signal, "rate", 1)
    return {name: samples_in(v, rate, name) if name in ("window", "hop") else v for name, v in said.items()}


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
    model, _ = built(replace(settings, machine=Machine()))
    weights = {name.removeprefix("average/"): t for name, t in found[0].items() if name.startswith("average/")}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"the checkpoint of {folder} does not fit its model: {error}") from error
    model = model.requires_grad_(False).eval().to(device)
    stage = reached(json.loads(found[1]["progress"]), settings.schedule)
    return model.at(stage) if isinstance(model, Grows) else model


def class_names(path: str | Path, label: str) -> tuple[str, ...]:
    """The names of a label's classes, in the images that a run is trained on; none, if they are not there any more."""
    try:
        labels = open_data(settings_of(RunFolder(path))).labels
    except UserError:
        return ()
    return next((found.classes for found in labels if found.name == label), ())
