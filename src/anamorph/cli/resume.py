"""`anamorph resume RUN [--images TOTAL] [--source SOURCE]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import tyro

from anamorph.cli.options import RunArgument, note, parse, report_progress
from anamorph.cli.train import COMPILED, Logs, run_training
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from anamorph.runs import Settings
    from anamorph.training.folder import RunFolder
    from anamorph.training.run import ComputeSettings

__all__ = ["main"]


@dataclass(frozen=True)
class Resume:
    """Go on where a training was stopped, killed or finished, as if it never had been."""

    run: RunArgument
    """The run's folder."""
    images: int | None = None
    """A new total of images to see."""
    source: str | None = None
    """The images to train an imported run on."""
    device: str | None = None
    """Go on with another device than the run was started with: its last bits will differ."""
    threads: int | None = None
    """Go on with another number of threads: its last bits may differ."""
    batch: int | None = None
    """Go on with another number of images per step (16 for an imported run at first)."""
    gradient_accumulation: int | None = None
    """Go on with each batch divided into so many, one after the other, to save memory."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Go on with or without compiling the training step: its last bits will differ. auto: as before."""
    logs: tyro.conf.OmitArgPrefixes[Logs] = Logs()


def main(words: Sequence[str]) -> int:
    options = parse(Resume, "resume", words)

    from anamorph.cli.logs import check_logs
    from anamorph.runs import resumed_settings, settings_of
    from anamorph.training.folder import RunFolder

    check_logs(options.logs)
    folder = RunFolder(options.run)
    settings = settings_of(folder)
    with folder.locked():
        seen = folder.images_seen()
        if not settings.source and not (options.source and options.images):
            raise UserError(f"{folder} was imported: to train it, say on what, and how much: --source SOURCE --images TOTAL")
        total = settings.images if options.images is None else options.images
        if total < max(seen, 1):
            raise UserError(
                f"{folder} has already seen {seen:,} images, more than --images {total:,}: ask for more, or leave it"
            )
        with report_progress("reading") as progress:
            new = resumed_settings(
                settings,
                total,
                _machine(options, settings.compute),
                batch=options.batch,
                source=options.source,
                progress=progress,
            )
        _amend(folder, settings, new)
        if seen >= total:
            note(f"done: {folder} has seen {seen:,} of {total:,} images; train it further with --images")
            return 0
        return run_training(folder, options.logs)


def _machine(options: Resume, machine: ComputeSettings) -> ComputeSettings:
    compiled = COMPILED[options.compile]
    return replace(
        machine,
        device=options.device or machine.device,
        threads=machine.threads if options.threads is None else options.threads,
        compiled=machine.compiled if compiled is None else compiled,
        gradient_accumulation=machine.gradient_accumulation
        if options.gradient_accumulation is None
        else options.gradient_accumulation,
    )


def _amend(folder: RunFolder, settings: Settings, new: Settings) -> None:
    """Write down what is done differently from now on, and tell it where it costs exactness."""
    from anamorph.core.config import to_plain
    from anamorph.runs import versions

    before = to_plain(settings)
    changes: dict[str, object] = {name: value for name, value in to_plain(new).items() if value != before[name]}
    if new.compute != settings.compute:
        note(f"going on with {new.compute} instead of {settings.compute}: the last bits will differ")
    config = folder.config()
    then, now = config.get("resumed", config.get("versions")), versions()
    if then != now:
        note(f"going on with {now} instead of {then}: the last bits may differ")
        changes["resumed"] = now
    if changes:
        folder.update_config(changes)
