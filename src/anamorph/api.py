"""What notebooks and scripts use: train and load runs, read images. `import anamorph` offers all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import torch

from anamorph.catalog import MODELS, PRIORS
from anamorph.core.errors import UserError
from anamorph.core.model import LatentModel
from anamorph.core.progress import no_progress
from anamorph.core.signal import Image, require_image
from anamorph.core.signal_batch import SignalBatch
from anamorph.core.stage import Growing, LearningRateSchedule
from anamorph.data.decode_image import decode, fit, survey
from anamorph.data.read_options import ReadOptions
from anamorph.runs import Settings, load, settings_of
from anamorph.runs import training_steps as _training_steps
from anamorph.training.autotune import ComputeRequest
from anamorph.training.folder import RunFolder
from anamorph.training.live import Live, line_progress
from anamorph.training.run import Precision
from anamorph.training.session import Status

__all__ = ["TrainedRun", "list_models", "list_priors", "read_images", "train", "training_steps"]


class TrainedRun:
    """A run on disk: its model, its settings, its log and its pictures. It can be given wherever a run's folder can."""

    def __init__(self, path: str | Path) -> None:
        """Open a run.

        Raises:
            UserError: if the folder holds none.
        """
        self.path = Path(path)
        self.settings: Settings = settings_of(RunFolder(path))

    @cached_property
    def model(self) -> LatentModel:
        """The trained model with averaged weights, on the CPU; `anamorph.load` has further choices."""
        return load(self.path)

    @property
    def images_seen(self) -> int:
        """Examples that the run has seen, counting repetitions."""
        return RunFolder(self.path).images_seen()

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of the log, each with the images seen, the seconds and the mean losses since the line before."""
        return RunFolder(self.path).metrics()

    @property
    def pictures(self) -> list[Path]:
        """The pictures that were drawn while the run was trained."""
        return sorted(RunFolder(self.path).pictures.glob("*.png"))

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        s = self.settings
        return f"TrainedRun({str(self.path)!r}: {s.model} on {s.source}, {self.images_seen:,} of {s.images:,} {s.signal.noun}s)"

    def _repr_png_(self) -> bytes | None:
        timeline = RunFolder(self.path).pictures / "timeline.png"
        return timeline.read_bytes() if timeline.is_file() else None

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "anamorph.train trains to the end and returns the run, which is saved; to go through it step by step, use "
            "`for status in anamorph.training_steps(...)`, with the same arguments"
        )


def train(
    model: str,
    source: Any,
    images: int,
    out: str | Path,
    *,
    size: int | tuple[int, int] | None = None,
    read_options: ReadOptions | None = None,
    labels: Sequence[str] | None = None,
    mirror: bool = False,
    batch: int = 128,
    seed: int = 0,
    device: str | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    compile: bool | None = None,
    config: Any = None,
    growing: Growing | None = None,
    lr_schedule: LearningRateSchedule | None = None,
    codes_of: str | Path | TrainedRun = "",
    progress: bool = True,
    **settings: Any,
) -> TrainedRun:
    """Train a model to the end; called again, it goes on where an earlier call was stopped.

    Args:
        model: name of a model or a prior, as `list_models` and `list_priors` give them.
        source: a name or a path, as on the command line, or data in memory: see `open_source`.
        images: examples to see in all, counting repetitions.
        out: the run's folder.
        size: side, or height and width, to which images are cut and scaled; None: as they are.
        read_options: everything else about how a source is read, such as the window of sounds.
        labels: names of the labels to use; None: all.
        mirror: flip images left to right half of the times they are seen.
        batch: examples per step.
        seed: of the weights, the order of the data, and the noise.
        device: "cpu" or "cuda"; None: cuda where there is one.
        precision: "float32" or "bfloat16"; None: whichever is faster.
        threads: processor threads; None: as many as are fastest.
        compile: whether the training step is compiled; None: where that saves time.
        config: all settings of the model as one object, such as `ALAEConfig(...)`.
        growing: how a growing model grows; `anamorph.presets` has some that are known to work.
        lr_schedule: warm-up and decay of the learning rate.
        codes_of: of a prior, the run whose codes it learns.
        progress: show how far training is, and the time left.
        settings: settings of the model by name, such as `learning_rate=0.001, w_dim=64`.

    Returns:
        The run; its `model` samples, reconstructs and edits.

    Raises:
        UserError: if the folder holds another run, or for anything that cannot be trained.
    """
    steps = training_steps(
        model,
        source,
        images,
        out,
        size=size,
        read_options=read_options,
        labels=labels,
        mirror=mirror,
        batch=batch,
        seed=seed,
        device=device,
        precision=precision,
        threads=threads,
        compile=compile,
        config=config,
        growing=growing,
        lr_schedule=lr_schedule,
        codes_of=codes_of,
        progress=progress,
        **settings,
    )
    if not progress:
        for _ in steps:
            pass
        return TrainedRun(out)
    with Live() as live:
        for status in steps:
            live.show(status)
    return TrainedRun(out)


def training_steps(
    model: str,
    source: Any,
    images: int,
    out: str | Path,
    *,
    size: int | tuple[int, int] | None = None,
    read_options: ReadOptions | None = None,
    device: str | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    compile: bool | None = None,
    config: Any = None,
    labels: Sequence[str] | None = None,
    codes_of: str | Path | TrainedRun = "",
    progress: bool = True,
    **options: Any,
) -> Iterator[Status]:
    """Train as `train` does, with the same arguments, and yield a status after every step.

    The loop may stop at any step: `train` or `training_steps` goes on from the last checkpoint.

    Raises:
        UserError: as `train` does.
    """
    if size is not None and read_options is not None:
        raise UserError("size is a part of read_options: give one of the two")
    own = {name: value for name in RUN_OPTIONS if (value := options.pop(name, None)) is not None}
    if size is not None:
        read_options = ReadOptions((size, size) if isinstance(size, int) else size)
    return _training_steps(
        model,
        str(source),
        images,
        out,
        config=config,
        settings=options,
        compute=ComputeRequest(device, precision, threads, compile),
        progress=line_progress("reading") if progress else no_progress,
        labels=None if labels is None else tuple(labels),
        read_options=read_options,
        codes_of=str(Path(codes_of)) if codes_of else "",
        **own,
    )


RUN_OPTIONS = {"mirror", "batch", "seed", "growing", "lr_schedule"}
"""Keywords of `training_steps` that are about the run and not about the model."""


def list_models(signal: Literal["image", "sound"] | None = None) -> list[str]:
    """List the names of the models, or of those for one kind of signal."""
    return [name for name, entry in MODELS.items() if signal is None or signal in entry.signals]


def list_priors() -> list[str]:
    """List the names of the priors, which learn the codes of a trained model."""
    return list(PRIORS)


def read_images(
    files: Any,
    size: int | tuple[int, int] | None = None,
    *,
    channels: int | None = None,
    like: LatentModel | TrainedRun | None = None,
) -> SignalBatch:
    """Read image files or PIL images as a batch that a model takes.

    Images are cut around their centre and scaled (Lanczos), as when a folder is read for training.

    Args:
        files: one or several paths, or PIL images.
        size: side, or height and width; None: that of the first image.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA); None: as the first image has.
        like: a model or a run, whose size and channels are used.

    Returns:
        Images [n, C, H, W] in [-1, 1].

    Raises:
        UserError: if there is none, or one cannot be read.
    """
    some = [files] if isinstance(files, (str, Path)) or hasattr(files, "convert") else list(files)
    if not some:
        raise UserError("no images were given")
    if like is not None:
        signal = require_image((like.model if isinstance(like, TrainedRun) else like).signal, "read_images")
    else:
        signal = _own_image(some[0], size, channels)
    pixels = np.stack([_pixels(one, signal) for one in some])
    return SignalBatch.of(torch.from_numpy(pixels).float() / 127.5 - 1, signal)


def _own_image(first: Any, size: int | tuple[int, int] | None, channels: int | None) -> Image:
    if hasattr(first, "convert"):
        height, width, colour = first.height, first.width, first.mode not in ("1", "L", "LA", "I;16")
    else:
        with _open(first) as file:
            found = survey(file)
        height, width, colour = found.height, found.width, found.colour
    height, width = (size, size) if isinstance(size, int) else size or (height, width)
    return Image(channels or (3 if colour else 1), height, width)


def _pixels(one: Any, signal: Image) -> Any:
    if hasattr(one, "convert"):
        return fit(one, signal)[0]
    with _open(one) as file:
        return decode(file, signal)[0]


def _open(path: str | Path) -> Any:
    try:
        return Path(path).expanduser().open("rb")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
