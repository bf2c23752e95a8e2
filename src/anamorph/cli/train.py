"""`anamorph train MODEL SOURCE --images TOTAL`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from anamorph.catalog import MODELS, PRIORS, config_class, model_entry
from anamorph.cli.logs import Logs, check_logs, open_logs
from anamorph.cli.options import SizeArgument, Sound, note, parse_size, report_progress
from anamorph.cli.parsing import ADVANCED, parse
from anamorph.core.errors import UserError
from anamorph.core.stage import LearningRateSchedule
from anamorph.presets import Preset, preset

if TYPE_CHECKING:
    from anamorph.runs import Training
    from anamorph.training.folder import RunFolder

__all__ = ["COMPILED", "main", "run_training"]

COMPILED = {"auto": None, "on": True, "off": False}
ABOUT = """Train a model on images or sounds, in a folder of its own.

Ctrl-C saves and stops; `anamorph resume RUN` goes on from there."""


@dataclass(frozen=True)
class Train:
    """Options of `train`; the model's own settings are added as `model`, and a preset's growth as `growing`."""

    model_name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """Model to train; `anamorph models` lists them."""
    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")]
    """Data to train on: a name (`anamorph sources`), a folder, or a .zip, .npz, .npy or IDX file. Its training part is used;
    with :all behind it, everything."""
    images: int | None = None
    """Total of images or sounds to train on, counting repetitions, at least 1. Needed, unless --preset has one."""
    preset: Annotated[int | None, tyro.conf.arg(metavar="SIZE")] = None
    """Use the network, growth and learning rates known to suit images of this size, in pixels; `anamorph models MODEL` lists
    the presets."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Folder of the new run. Default: runs/MODEL-SOURCE."""
    size: SizeArgument = None
    """Crop and resize images to this size in pixels, 64 or 64x48 (height x width). Default: as they are."""
    channels: Literal[1, 2, 3, 4] | None = None
    """Number of channels to read: images in grey (1), RGB (3) or RGBA (4), sounds in mono (1) or stereo (2). Default: the
    images' own; mono."""
    mirror: bool = False
    """Flip each image left to right with a probability of one half."""
    batch: int | None = None
    """Images per step, at least 1. Default: 128; a preset has a batch for each level."""
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate falls from the end of the warm-up to the total of --images: not at all, or to zero along a line or
    half a cosine."""
    warmup_images: int = 0
    """Images over which the learning rate rises linearly from zero, at least 0."""
    codes_of: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Train a prior on the codes of this run. Without it, pixelcnn, pixelsnail and wavenet model pixels or samples
    themselves."""
    evaluate_every: Annotated[int | None, tyro.conf.arg(metavar="IMAGES")] = None
    """Evaluate the run at this interval, in images, on 1,000 images and samples, for its log and curves. Default: never."""
    best_metric: Annotated[str, tyro.conf.arg(metavar="METRIC")] = ""
    """Keep the checkpoint that is best by this metric, for other commands to use: fid, kid, precision, recall,
    reconstruction_mse or feature_distance. Default: fid; for models that cannot sample, reconstruction_mse."""
    seed: int = 0
    """Seed of all random numbers: weights, order of data, noise; 0 to 2^63 - 1."""
    device: str | None = None
    """Device to train on: cpu, cuda, or one of several GPUs, such as cuda:1. Default: cuda if there is one."""
    upscale: Annotated[bool, ADVANCED] = False
    """Enlarge images that are smaller than --size, instead of refusing them."""
    label: Annotated[tuple[str, ...] | None, ADVANCED, tyro.conf.arg(metavar="NAME...")] = None
    """Read only these labels of the source. Default: all."""
    gradient_accumulation: Annotated[int, ADVANCED] = 1
    """Compute each batch in this number of pieces, one after another, to save memory; a divisor of the batch."""
    precision: Annotated[Literal["float32", "bfloat16"] | None, ADVANCED] = None
    """Number format of the network's arithmetic. Default: bfloat16 where it is faster."""
    threads: Annotated[int | None, ADVANCED] = None
    """Number of processor threads, at least 1. Default: whatever is fastest now ($OMP_NUM_THREADS is honoured)."""
    compile: Annotated[Literal["auto", "on", "off"], ADVANCED] = "auto"
    """Compile the training step, which takes a minute or more per level and pays off in long runs. auto: where it pays off."""
    sound: tyro.conf.OmitArgPrefixes[Sound] = Sound()
    logs: tyro.conf.OmitArgPrefixes[Logs] = Logs()


def main(words: Sequence[str]) -> int:
    options = parse(_options_class(words), "train", words, ABOUT)
    out = options.out or Path("runs") / f"{options.model_name}-{Path(options.source).name.replace(':', '-')}"

    from anamorph.runs import new_settings, settings_of
    from anamorph.training.folder import RunFolder

    check_logs(options.logs)
    used = None if options.preset is None else preset(options.model_name, options.preset)
    images = options.images if options.images is not None or not used else used.images
    if images is None:
        raise UserError("--images is missing: the total of images to train on, such as --images 200000")
    folder = RunFolder(out)
    with folder.locked():
        if folder.exists:
            settings = settings_of(folder)
            raise UserError(
                f"{folder} already holds a run of {settings.model} on {settings.source}: go on with "
                f"`anamorph resume {folder}`, or choose another --out"
            )
        with report_progress("reading") as progress:
            settings = new_settings(
                options.model_name,
                options.source,
                images,
                config=options.model,
                progress=progress,
                **_run_options(options, images),
            )
        settings.write(folder)
        return run_training(folder, options.logs)


def _options_class(words: Sequence[str]) -> type[Any]:
    """Return the options with those of the model and preset on the command line, so that --help and mistakes show them."""
    names = [word for word in words if not word.startswith("-")]
    if not names:
        return Train
    name = next((word for word in names if word in MODELS | PRIORS), None) or model_entry(names[0]).name
    used = _preset(name, words)
    defaults = {"model": used.config, "growing": used.growing} if used else {"model": config_class(name)()}
    fields = [(field, type(value), dataclasses.field(default=value)) for field, value in defaults.items()]
    return dataclasses.make_dataclass("Train", fields, bases=(Train,), frozen=True)


def _preset(name: str, words: Sequence[str]) -> Preset | None:
    """Return the preset on the command line; None if there is none, or its size is no number (the parser will say so)."""
    split = [part for word in words for part in word.split("=", 1)]
    sizes = [after for word, after in pairwise(split) if word == "--preset"]
    try:
        return preset(name, int(sizes[-1])) if sizes else None
    except ValueError:
        return None


def _run_options(options: Any, images: int) -> dict[str, Any]:
    """Return the arguments of `new_settings` that the options stand for."""
    from anamorph.data.open import ReadOptions
    from anamorph.training.autotune import ComputeRequest

    size, growth = _size_and_growth(options)
    return {
        "read_options": ReadOptions(size, options.channels, options.upscale, **vars(options.sound)),
        "codes_of": str(options.codes_of or ""),
        **_validation(options),
        "labels": options.label,
        "mirror": options.mirror,
        **growth,
        "lr_schedule": _lr_schedule(options, images),
        "seed": options.seed,
        "compute": ComputeRequest(
            options.device, options.precision, options.threads, COMPILED[options.compile], options.gradient_accumulation
        ),
    }


def _size_and_growth(options: Any) -> tuple[tuple[int, int] | None, dict[str, Any]]:
    size = parse_size(options.size)
    if options.preset is None:
        return size, {"batch": 128 if options.batch is None else options.batch}
    if options.batch is not None:
        raise UserError(
            "a preset has a batch for each level: leave out --batch, divide it with --gradient-accumulation, or set "
            "--growing.batches"
        )
    if size and min(size) != options.preset:
        raise UserError(
            f"--preset {options.preset} is for images whose shorter side has {options.preset} pixels, got --size "
            f"{options.size}: leave out --size, or choose the preset of that size"
        )
    return size or (options.preset, options.preset), {"growing": options.growing}


def _lr_schedule(options: Any, images: int) -> LearningRateSchedule | None:
    """Return the schedule of the learning rate, which decays from the end of its warm-up; None for a constant one."""
    if options.lr_schedule == "constant":
        return LearningRateSchedule(options.warmup_images) if options.warmup_images else None
    if options.warmup_images >= images:
        raise UserError(
            f"--lr-schedule {options.lr_schedule} falls after the warm-up, and --warmup-images {options.warmup_images:,} takes "
            f"all of --images {images:,}: choose a shorter warm-up, or --lr-schedule constant"
        )
    return LearningRateSchedule(options.warmup_images, options.lr_schedule, decay_from=options.warmup_images)


def _validation(options: Any) -> dict[str, Any]:
    if options.evaluate_every is None:
        if options.best_metric:
            raise UserError("--best-metric needs --evaluate-every, the images between two evaluations")
        return {}
    from anamorph.evaluation.validation import check_best

    check_best(options.best_metric)
    return {"evaluate_every": options.evaluate_every, "best_metric": options.best_metric}


def run_training(folder: RunFolder, logs: Logs) -> int:
    """Train the run in a locked folder to its total, showing its progress; return the exit status."""
    from anamorph.core.model import Samples
    from anamorph.evaluation.validation import validator_for
    from anamorph.runs import open_training
    from anamorph.training.status_line import Live, Stop

    with report_progress("reading") as progress:
        training = open_training(folder, progress)
    _describe(training)
    with report_progress("preparing the validation") as progress:
        validator = validator_for(training, progress)
    if validator is not None:
        note(
            f"evaluated every {validator.interval:,} images; the checkpoint that is best by {validator.metric} is kept, and is "
            f"the one that other commands use"
        )
    settings = training.settings
    with Stop().listening() as stop, open_logs(logs, folder, settings) as log, Live() as live:
        for status in training.run_to_end(stop, validator):
            live.show(status)
            if status.record:
                log(status.record)
    if training.run.images < settings.images:
        note(f"stopped and saved at {training.run.images:,} {settings.signal.noun}s: go on with `anamorph resume {folder}`")
        return 130
    next_command = "sample" if isinstance(training.run.model, Samples) else "reconstruct"
    note(f"done: {folder}/pictures/timeline.png shows the progress; next: `anamorph {next_command} {folder}`")
    return 0


def _describe(training: Training) -> None:
    """Print what is trained on what, and on which hardware."""
    from anamorph.run_data import has_held_out

    settings, source = training.settings, training.source
    for problem in training.problems:
        note(f"skipped a damaged checkpoint: {problem}")
    for text in source.notes:
        note(text)
    held_out = f"{training.preview.size:,}" if has_held_out(settings) else "none"
    note(
        f"{settings.model} on {settings.source}: {source.size:,} {settings.signal.noun}s of {settings.signal}, {held_out} held "
        f"out; {settings.compute}"
    )
    if settings.compute.compiled:
        graphs = settings.schedule.num_graphs
        times = "" if graphs == 1 else f", {graphs} times, as it grows"
        note(
            f"compiling the training step: one to a few minutes{times}; a step that was compiled before is read from the cache"
        )
