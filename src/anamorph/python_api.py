"""What notebooks and scripts use: train and load runs, read images. `import anamorph` offers all of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NoReturn, ParamSpec, TypeVar, cast

import numpy as np
import torch

from anamorph.catalog import MODELS, PRIORS, config_class
from anamorph.core.errors import UserError, nearest
from anamorph.core.model import LatentModel
from anamorph.core.progress import no_progress
from anamorph.core.signal import Image, require_image
from anamorph.core.signal_batch import SignalBatch
from anamorph.core.stage import Growing, LearningRateSchedule
from anamorph.data.decode_image import decode, fit, survey
from anamorph.data.open import absolute, open_source
from anamorph.data.read_options import ReadOptions, to_samples
from anamorph.data.save import save_images
from anamorph.runs import Settings, load, new_settings, open_training, settings_of
from anamorph.training.autotune import ComputeRequest
from anamorph.training.folder import RunFolder
from anamorph.training.run import Precision
from anamorph.training.session import Status
from anamorph.training.status_line import Live, line_progress

__all__ = ["TrainedRun", "list_models", "list_priors", "read_images", "train", "training_steps"]


class TrainedRun:
    """A run on disk: its model, its settings, its log and its pictures. It can be given wherever a run's folder can."""

    def __init__(self, path: str | PathLike[str]) -> None:
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


def training_steps(
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
    config: Any = None,
    growing: Growing | None = None,
    lr_schedule: LearningRateSchedule | None = None,
    codes_of: str | PathLike[str] = "",
    compute: ComputeRequest | None = None,
    progress: bool = True,
    **settings: Any,
) -> Iterator[Status]:
    """Train a model as `train` does, and yield a status after every step; stop the loop at any step, and go on later.

    Args:
        model: name of a model or a prior, as `list_models` and `list_priors` give them.
        source: a name or a path, as on the command line, or data in memory: see `open_source`.
        images: examples to see in all, counting repetitions.
        out: the run's folder.
        size: side, or height and width, to which images are cut and scaled; None: as they are.
        read_options: all about how a source is read, such as the window of sounds; instead of size.
        labels: names of the labels to use; None: all.
        mirror: flip images left to right half of the times they are seen.
        batch: examples per step.
        seed: seed of the weights, the order of the data, and the noise.
        device: "cpu" or "cuda"; None: cuda where there is one.
        precision: "float32" or "bfloat16"; None: whichever is faster.
        config: all settings of the model as one object, such as `ALAEConfig(...)`.
        growing: how a growing model grows; `anamorph.presets` has schedules for some sizes.
        lr_schedule: warm-up and decay of the learning rate.
        codes_of: of a prior, the run whose codes it learns.
        compute: threads and compilation; instead of device and precision.
        progress: show how far it is, and the time left.
        settings: settings of the model by name, such as `learning_rate=0.001, w_dim=64`.

    Raises:
        UserError: if the folder holds another run, or for anything that cannot be trained.
    """
    options: dict[str, Any] = {"mirror": mirror, "batch": batch, "seed": seed, "growing": growing, "lr_schedule": lr_schedule}
    options |= {"labels": None if labels is None else tuple(labels), "codes_of": str(Path(codes_of)) if codes_of else ""}
    options |= {"read_options": _read_options(size, read_options), "config": _configured(model, config, settings)}
    options |= {"compute": compute or ComputeRequest(device, precision)}
    options |= {"progress": line_progress("reading") if progress else no_progress}
    return _steps(RunFolder(out), images, {"model": model, "source": _on_disk(source, Path(out), options), **options})


P = ParamSpec("P")
R = TypeVar("R")


def _with_arguments_of(original: Callable[P, Any]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Give a function the arguments of another one, for readers, completion and types."""

    def decorate(function: Callable[..., R]) -> Callable[P, R]:
        arguments = str(original.__doc__).split("    Args:\n")[1].split("    Raises:")[0]
        function.__doc__ = str(function.__doc__).replace("    Raises:", f"    Args:\n{arguments}    Raises:")
        returned = inspect.signature(function).return_annotation
        function.__signature__ = inspect.signature(original).replace(return_annotation=returned)  # type: ignore[attr-defined]
        return cast("Callable[P, R]", function)

    return decorate


@_with_arguments_of(training_steps)
def train(*arguments: Any, **options: Any) -> TrainedRun:
    """Train a model to the end, and return the run; called again, it goes on where an earlier call was stopped.

    Raises:
        UserError: if the folder holds another run, or for anything that cannot be trained.
    """
    out = inspect.signature(training_steps).bind(*arguments, **options).arguments["out"]
    steps = training_steps(*arguments, **options)
    with Live() if options.get("progress", True) else nullcontext() as live:
        for status in steps:
            if live:
                live.show(status)
    return TrainedRun(out)


def _on_disk(source: Any, out: Path, options: dict[str, Any]) -> str:
    """Return the path of a source; one in memory is first written into the run's folder, read as the options say."""
    if isinstance(source, (str, PathLike)):
        return str(source)
    save_images(
        open_source(source, options.pop("read_options", None), split="all", progress=options["progress"]), out / "data.npz"
    )
    options["read_options"] = None
    return str(out / "data.npz")


def _read_options(size: int | tuple[int, int] | None, read_options: ReadOptions | None) -> ReadOptions | None:
    if size is None:
        return read_options
    if read_options is not None:
        raise UserError("size is a part of read_options: give one of the two")
    return ReadOptions((size, size) if isinstance(size, int) else size)


def _configured(model: str, config: Any, settings: Mapping[str, Any]) -> Any:
    """Return a model's settings with some replaced; None if nothing is said about them.

    Raises:
        UserError: for a setting that the model does not have.
    """
    if not settings:
        return config
    config = config_class(model)() if config is None else config
    known = [f.name for f in fields(config)]
    for name in settings:
        if name not in known:
            raise UserError(f"{model} has no setting {name!r}; {nearest(name, known)}")
    return replace(config, **settings)


def _steps(folder: RunFolder, images: int, options: dict[str, Any]) -> Iterator[Status]:
    progress = options["progress"]
    with folder.locked():
        if folder.exists:
            _check_same_run(folder, images, options)
            folder.update_config({"images": images})
        else:
            new_settings(images=images, **options).write(folder)
        yield from open_training(folder, progress).run_to_end()


def _check_same_run(folder: RunFolder, images: int, options: Mapping[str, Any]) -> None:
    """Check that a folder holds the run that the options ask for.

    Raises:
        UserError: naming what differs.
    """
    old = settings_of(folder)
    names = ("model", "mirror", "batch", "seed", "growing", "labels")
    expected = {name: options[name] for name in names} | {"source": absolute(options["source"])}
    expected["codes_of"] = str(Path(options["codes_of"]).absolute()) if options["codes_of"] else ""
    expected |= {"config": options["config"]} if options["config"] is not None else {}
    read_options = options["read_options"]
    if read_options is not None:
        sample_rate = getattr(old.signal, "sample_rate", 1)
        given = {f.name: value for f in fields(read_options) if (value := getattr(read_options, f.name)) != f.default}
        lengths = {name: to_samples(given[name], sample_rate, name) for name in ("window", "hop") if name in given}
        expected |= given | lengths
    other = [f"{name} {getattr(old, name)}" for name, value in expected.items() if getattr(old, name) != value]
    if other or images < old.images:
        raise UserError(
            f"{folder} holds a run of {', '.join(other) or f'{old.images:,} images'}, which is not what was asked for: "
            f"choose another folder, or ask for the same"
        )


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
