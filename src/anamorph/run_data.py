"""The data of a run: training examples, held-out examples, and the names of classes."""

from __future__ import annotations

from pathlib import Path

from anamorph.core.errors import UserError
from anamorph.core.progress import Progress, no_progress
from anamorph.data.dataset import Dataset
from anamorph.data.open import ReadOptions, open_source, split_of
from anamorph.settings import Settings, settings_of
from anamorph.training.folder import RunFolder

__all__ = ["class_names", "has_held_out", "open_data", "open_source_of", "preview_data"]


def open_data(settings: Settings, split: str = "train", progress: Progress = no_progress) -> Dataset:
    """Open the images or sounds that a run trains on, or those that are held out from it (test).

    Raises: UserError if the run was imported and has none, or they cannot be read.
    """
    if not settings.source:
        raise UserError(
            "this run was imported, and has no images of its own: name files, or give it some with "
            "`anamorph resume RUN --source SOURCE --images TOTAL`"
        )
    return open_source_of(settings, settings.read_options, split, progress)


def open_source_of(settings: Settings, options: ReadOptions, split: str, progress: Progress) -> Dataset:
    spec = settings.source if split == "train" else split_of(settings.source)[0]
    source = open_source(spec, options, split=split, seed=settings.seed, mirror=settings.mirror, progress=progress)
    return source if settings.labels is None else source.with_labels(settings.labels)


def has_held_out(settings: Settings) -> bool:
    """Return whether a run leaves images out of its training: not if its source was named with :all or :test."""
    return split_of(settings.source)[1] in (None, "train")


def preview_data(settings: Settings) -> Dataset:
    """Open the examples that a run's pictures show and `data:12` names: held-out ones, where there are any."""
    return open_data(settings, "test" if has_held_out(settings) else "train").shuffled()


def class_names(path: str | Path, label: str) -> tuple[str, ...]:
    """Return the class names of a label in a run's data; none if the data cannot be opened any more."""
    try:
        labels = open_data(settings_of(RunFolder(path))).labels
    except UserError:
        return ()
    return next((known.classes for known in labels if known.name == label), ())
