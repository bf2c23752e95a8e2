"""Options that several commands take, and how commands print."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from anamorph.cli.parsing import ADVANCED
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from anamorph.core.model import LatentModel

__all__ = [
    "ClassArguments",
    "Common",
    "ImageArguments",
    "LayersArgument",
    "ModelOptions",
    "RunArgument",
    "SizeArgument",
    "Sound",
    "check_at_least",
    "emit",
    "measurement_options",
    "note",
    "note_checkpoint",
    "parse_size",
    "report_progress",
]

RunArgument = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
ImageArguments = Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="IMAGE...")]
ClassArguments = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE...")]
LayersArgument = Annotated[str, tyro.conf.arg(metavar="LAYERS")]
SizeArgument = Annotated[str | None, tyro.conf.arg(metavar="SIZE")]


@dataclass(frozen=True)
class Sound:
    """How sounds are read."""

    sample_rate: Annotated[int | None, tyro.conf.arg(metavar="HERTZ")] = None
    """Resample sounds to this rate, in hertz. Default: their own rate, or the lowest of several."""
    window: Annotated[str | None, tyro.conf.arg(metavar="LENGTH")] = None
    """Cut sounds into windows of this length, in samples (8192) or seconds (0.5s). Default: about one second."""
    hop: Annotated[str | None, tyro.conf.arg(metavar="LENGTH")] = None
    """Distance between the starts of two windows, in samples or seconds. Default: the length of a window."""
    name_pattern: Annotated[str, tyro.conf.arg(metavar="PATTERN")] = ""
    """Read labels from file names, as in "{digit}_{speaker}_*" for 7_jackson_32.wav. Default: the names of sub-folders."""


@dataclass(frozen=True)
class ModelOptions:
    """Options of every command that computes with a trained model."""

    seed: int = 0
    """Seed of all random numbers, at least 0."""
    json: bool = False
    """Print the result as JSON."""
    device: Annotated[str, ADVANCED] = "cpu"
    """Device to compute on: cpu, cuda, or one of several GPUs, such as cuda:1."""
    threads: Annotated[int | None, ADVANCED] = None
    """Number of processor threads, at least 1. Default: all."""
    precision: Annotated[Literal["float32", "bfloat16"], ADVANCED] = "float32"
    """Number format of the network's arithmetic."""

    def apply_threads(self) -> None:
        """Set threads and precision for everything computed from now on."""
        import torch

        from anamorph.training.autotune import apply_compute_settings
        from anamorph.training.run import ComputeSettings

        threads = torch.get_num_threads() if self.threads is None else self.threads
        apply_compute_settings(ComputeSettings(self.device, self.precision, threads))

    def load(self, run: Path) -> LatentModel:
        """Load a run's model onto --device."""
        from anamorph.runs import load

        self.apply_threads()
        model = load(run, self.device)
        note_checkpoint(run)
        return model

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute without gradients, in --precision."""
        import torch

        device = torch.device(self.device).type
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=self.precision == "bfloat16"):
            yield


@dataclass(frozen=True)
class Common(ModelOptions):
    """Options of every command that writes a file made with a trained model."""

    out: Path | None = None
    """File to write. Default: a file in the run's folder."""


def note_checkpoint(run: Path) -> None:
    """Print which checkpoint is used, if it is the best one instead of the latest."""
    from anamorph.training.folder import RunFolder

    folder = RunFolder(run)
    if folder.best.is_file():
        used = folder.checkpoint_in_use()
        note(f"using the checkpoint of {run} at {used['images']:,} of {folder.images_seen():,} images: {used['which']}")


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Return height and width of a size such as 64 or 64x48.

    Raises:
        UserError: for any other text.
    """
    if text is None:
        return None
    try:
        sides = [int(side) for side in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides, default=0) < 1:
        raise UserError(f"--size is a side or HEIGHTxWIDTH, such as 64 or 64x48; got {text!r}")
    return sides[0], sides[-1]


def check_at_least(least: int, **options: int | None) -> None:
    """Check that options, by name, are at least so large; None is not checked.

    Raises:
        UserError: for the first that is smaller.
    """
    for name, value in options.items():
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")


def note(text: str) -> None:
    """Print to the error stream, so that results can be piped."""
    print(text, file=sys.stderr, flush=True)


def emit(as_json: bool, text: str, **facts: Any) -> None:
    """Print the result of a command, as text or as JSON."""
    print(json.dumps(facts, default=_plain) if as_json else text, flush=True)


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else str(value)


def measurement_options(options: Any) -> dict[str, Any]:
    """Return what `evaluate` and `compare` pass on to a measurement: their options of the same names, and where notes go."""
    return {name: getattr(options, name) for name in ("metrics", "features", "n", "seed", "device")} | {"note": note}


@contextmanager
def report_progress(title: str) -> Iterator[Any]:
    """Show progress with the time left, on a terminal; yields a function of (done, total)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
