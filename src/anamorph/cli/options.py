"""What the commands have in common: parsing, the options that all of them take, and how they print."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from anamorph.core.model import LatentModel

__all__ = [
    "Common",
    "ImageArguments",
    "RunArgument",
    "Sound",
    "emit",
    "note",
    "note_checkpoint",
    "parse",
    "parse_size",
    "report_progress",
]

T = TypeVar("T")

RunArgument = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
ImageArguments = Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="IMAGE...")]


@dataclass(frozen=True)
class Sound:
    """How sounds are read."""

    sample_rate: int | None = None
    """Read sounds at this rate in hertz; by default their own, or the lowest of them."""
    window: str | None = None
    """Cut sounds into windows of so many samples, as in 8192, or seconds, as in 0.5s; by default about one second."""
    hop: str | None = None
    """From one window to the next, in samples or seconds; by default a window."""
    name_pattern: str = ""
    """What the names of files tell, as in "{digit}_{speaker}_*" for 7_jackson_32.wav: labels, instead of sub-folders' names."""


@dataclass(frozen=True)
class Common:
    """Options of every command that uses a trained model."""

    out: Path | None = None
    """Where to write; by default a file in the run's folder."""
    seed: int = 0
    """Of all random numbers."""
    device: str = "cpu"
    """cpu, or cuda."""
    threads: int | None = None
    """Processor threads; by default all."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the arithmetic."""
    json: bool = False
    """Print the result as JSON."""

    def apply_threads(self) -> None:
        """Compute as asked for from now on."""
        import torch

        from anamorph.training.autotune import apply_compute_settings
        from anamorph.training.run import ComputeSettings

        threads = torch.get_num_threads() if self.threads is None else self.threads
        apply_compute_settings(ComputeSettings(self.device, self.precision, threads))

    def load(self, run: Path) -> LatentModel:
        """The run's model, on the device asked for."""
        from anamorph.runs import load

        self.apply_threads()
        model = load(run, self.device)
        note_checkpoint(run)
        return model

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Without gradients, in the precision asked for."""
        import torch

        device = torch.device(self.device).type
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=self.precision == "bfloat16"):
            yield


def note_checkpoint(run: Path) -> None:
    """Tell if a run is used as it was when it did best, and not as it is now."""
    from anamorph.training.folder import RunFolder

    folder = RunFolder(run)
    if folder.best.is_file():
        used = folder.checkpoint_in_use()
        note(f"{run} as it was at {used['images']:,} of {folder.images_seen():,} images: the {used['which']}")


def parse(kind: type[T], command: str, words: Sequence[str], about: str = "") -> T:
    """Options from the command line; on `--help` or a mistake, tells and exits."""
    return tyro.cli(
        kind,
        prog=f"anamorph {command}",
        args=_gathered(kind, words),
        description=about or kind.__doc__,
        config=(tyro.conf.FlagCreatePairsOff,),
    )


def _gathered(kind: type, words: Sequence[str]) -> list[str]:
    """The words, with the values of an option that takes several and is given more than once behind its first occurrence: of
    `--label digit=7 --label speaker=theo`, only the last would count."""
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    several = {f"--{field.name.replace('_', '-')}" for field in fields if ", ...]" in str(field.type)}
    current: list[str] = []
    parts, first = [current], dict[str, list[str]]()
    for word in words:
        if not word.startswith("--"):
            current.append(word)
            continue
        name, *value = word.split("=", 1)
        current = first.get(name, [name, *value] if name in several else [word])
        if name in first:
            current += value
        else:
            parts.append(current)
        if name in several:
            first[name] = current
    return [word for part in parts for word in part]


def parse_size(text: str | None) -> tuple[int, int] | None:
    """64 or 64x48 (height x width)."""
    if text is None:
        return None
    try:
        sides = [int(side) for side in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides, default=0) < 1:
        raise UserError(f"--size is a side or HEIGHTxWIDTH, such as 64 or 64x48; got {text!r}")
    return sides[0], sides[-1]


def note(text: str) -> None:
    """Something to know, on the error stream, so that results can be piped."""
    print(text, file=sys.stderr, flush=True)


def emit(as_json: bool, text: str, **facts: Any) -> None:
    """The result of a command, for people or as JSON."""
    print(json.dumps(facts, default=_plain) if as_json else text, flush=True)


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else str(value)


@contextmanager
def report_progress(what: str) -> Iterator[Any]:
    """Yields a function of (done, total) that shows progress with the time left, once it has taken a second."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
