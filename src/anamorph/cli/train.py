"""`anamorph train MODEL SOURCE --images TOTAL`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from anamorph.catalog import MODELS, PRIORS, config_class, model_entry
from anamorph.cli.options import Sound, note, parse, parse_size, report_progress
from anamorph.core.errors import UserError
from anamorph.presets import Preset, preset

__all__ = ["COMPILED", "Logs", "main", "run_training"]

COMPILED = {"auto": None, "on": True, "off": False}
ABOUT = """Train a model on images or sounds, in a folder of its own. Ctrl-C saves and stops; `anamorph resume RUN` goes on."""


@dataclass(frozen=True)
class Logs:
    """Where else to log to."""

    tensorboard: bool = False
    """Also write TensorBoard events into the run's folder (needs anamorph[tensorboard])."""
    wandb: bool = False
    """Also log to Weights & Biases (needs anamorph[wandb])."""


@dataclass(frozen=True)
class Train:
    """What `train` takes; the model's own settings are added as `model`, and a preset's growth as `growing`."""

    model_name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """The model (`anamorph models` lists them)."""
    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")]
    """A name (`anamorph sources`), a folder, a .zip, .npz, .npy or IDX file; what is to train on, or write :all behind it."""
    images: int | None = None
    """How many images or sounds to see in all, counting repetitions; a preset has a number of its own."""
    preset: int | None = None
    """Train as is known to suit this size (`anamorph models MODEL` lists what there is): network, growth, rates."""
    out: Path | None = None
    """The run's folder; runs/MODEL-SOURCE by default."""
    size: str | None = None
    """Read images at this size, such as 64 or 64x48 (height x width), cut around their centre."""
    channels: Literal[1, 2, 3, 4] | None = None
    """Read images as grey (1), RGB (3) or RGBA (4), sounds in 1 channel (by default) or 2."""
    upscale: bool = False
    """Enlarge images that are smaller than --size, instead of refusing them."""
    sound: tyro.conf.OmitArgPrefixes[Sound] = Sound()
    mirror: bool = False
    """Flip images left to right at half of the times they are seen."""
    codes_of: Path | None = None
    """The run on whose codes a prior is trained: pixelcnn or pixelsnail, which without are laws of pixels; gaussian or mixture
    of real codes."""
    label: tuple[str, ...] | None = None
    """Only these labels come along; by default all do."""
    evaluate_every: int | None = None
    """Measure the run after so many images, again and again, over 1,000 images and samples: into its log and curves."""
    best_metric: str = ""
    """Keep the checkpoint that is best by this measure (fid, kid, precision, recall, reconstruction_mse, feature_distance);
    by default by fid, or, of a model that does not draw, by reconstruction_mse. It is the one that other commands use."""
    batch: int | None = None
    """Images per step, 128 by default; a preset has one for each level."""
    gradient_accumulation: int = 1
    """Divide each batch into so many, one after the other, to save memory."""
    seed: int = 0
    """Of all random numbers: weights, order, noise."""
    device: str | None = None
    """cpu or cuda; by default cuda where there is one."""
    precision: Literal["float32", "bfloat16"] | None = None
    """Of the arithmetic; by default bfloat16 where it is faster."""
    threads: int | None = None
    """Processor threads; by default what is fastest now ($OMP_NUM_THREADS is honoured)."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the training step: takes a minute or a few, at each level, and pays on long runs."""
    logs: tyro.conf.OmitArgPrefixes[Logs] = Logs()


def main(words: Sequence[str]) -> int:
    options = parse(_with_model(words), "train", words, ABOUT)
    out = options.out or Path("runs") / f"{options.model_name}-{Path(options.source).name.replace(':', '-')}"

    from anamorph.cli.logs import check_logs
    from anamorph.runs import new_settings, settings_of
    from anamorph.training.folder import RunFolder

    check_logs(options.logs)
    chosen = None if options.preset is None else preset(options.model_name, options.preset)
    images = options.images if options.images is not None or not chosen else chosen.images
    if images is None:
        raise UserError("how many images is it to see? --images 200000, say")
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
                **_chosen(options),
            )
        settings.write(folder)
        return run_training(folder, options.logs)


def _with_model(words: Sequence[str]) -> type[Any]:
    """The options with those of the model and the preset that are asked for, so that --help and mistakes show them."""
    plain = [word for word in words if not word.startswith("-")]
    if not plain:
        return Train
    name = next((word for word in plain if word in MODELS | PRIORS), None) or model_entry(plain[0]).name
    chosen = _preset(name, words)
    defaults = {"model": chosen.config, "growing": chosen.growing} if chosen else {"model": config_class(name)()}
    fields = [(field, type(value), dataclasses.field(default=value)) for field, value in defaults.items()]
    return dataclasses.make_dataclass("Train", fields, bases=(Train,), frozen=True)


def _preset(name: str, words: Sequence[str]) -> Preset | None:
    """The preset that is asked for; None if none is, or no size (which the parser will say)."""
    split = [part for word in words for part in word.split("=", 1)]
    sizes = [after for word, after in pairwise(split) if word == "--preset"]
    try:
        return preset(name, int(sizes[-1])) if sizes else None
    except ValueError:
        return None


def _chosen(options: Any) -> dict[str, Any]:
    from anamorph.data.open import ReadOptions
    from anamorph.training.autotune import ComputeRequest

    size = parse_size(options.size)
    if options.preset is None:
        growth: dict[str, Any] = {"batch": 128 if options.batch is None else options.batch}
    elif options.batch is not None:
        raise UserError(
            "a preset has a batch for each level: leave out --batch, divide it with --gradient-accumulation, or see "
            "--growing.batches"
        )
    elif size and min(size) != options.preset:
        raise UserError(f"the preset {options.preset} is for images whose shorter side is that; got --size {options.size}")
    else:
        size, growth = size or (options.preset, options.preset), {"growing": options.growing}
    return {
        "read_options": ReadOptions(size, options.channels, options.upscale, **vars(options.sound)),
        "codes_of": str(options.codes_of or ""),
        **_watched(options),
        "labels": options.label,
        "mirror": options.mirror,
        **growth,
        "seed": options.seed,
        "compute": ComputeRequest(
            options.device, options.precision, options.threads, COMPILED[options.compile], options.gradient_accumulation
        ),
    }


def _watched(options: Any) -> dict[str, Any]:
    if options.evaluate_every is None:
        if options.best_metric:
            raise UserError("--best-metric needs --evaluate-every: how many images lie between two measures?")
        return {}
    from anamorph.evaluation.validation import check_best

    check_best(options.best_metric)
    return {"evaluate_every": options.evaluate_every, "best_metric": options.best_metric}


def run_training(folder: Any, logs: Logs) -> int:
    """Train the run in a locked folder to its total, showing how it goes; returns the exit status."""
    from anamorph.cli.logs import open_logs
    from anamorph.core.model import Samples
    from anamorph.evaluation.validation import validator_for
    from anamorph.run_data import has_held_out
    from anamorph.runs import open_training
    from anamorph.training.live import Live, Stop

    with report_progress("reading") as progress:
        training = open_training(folder, progress)
    for problem in training.problems:
        note(f"skipped a damaged checkpoint: {problem}")
    settings, noun = training.settings, training.settings.signal.noun
    for told in training.source.notes:
        note(told)
    note(
        f"{settings.model} on {settings.source}: {training.source.size:,} {noun}s of {settings.signal}, "
        f"{f'{training.preview.size:,}' if has_held_out(settings) else 'none'} held out; {settings.compute}"
    )
    if settings.compute.compiled:
        kinds = settings.schedule.num_graphs
        often = "" if kinds == 1 else f", {kinds} times, as it grows"
        note(f"compiling the training step: this takes from one to a few minutes{often}; what was compiled once is kept")
    with report_progress("learning to look") as progress:
        watch = validator_for(training, progress)
    if watch is not None:
        note(
            f"measured every {watch.interval:,} images; the checkpoint that is best by {watch.metric} is kept, and is the one "
            f"that other commands use"
        )
    with Stop().listening() as stop, open_logs(logs, folder, settings) as log, Live() as live:
        for status in training.run_to_end(stop, watch):
            live.show(status)
            if status.record:
                log(status.record)
    if training.run.images < settings.images:
        note(f"stopped and saved at {training.run.images:,} {noun}s: `anamorph resume {folder}` goes on")
        return 130
    can = "sample" if isinstance(training.run.model, Samples) else "reconstruct"
    note(f"done: {folder}/pictures/timeline.png shows how it went; next: `anamorph {can} {folder}`")
    return 0
