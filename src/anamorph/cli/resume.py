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
    from anamorph.training.run import Machine

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
    compile: Literal["auto", "on", "off"] = "auto"
    """Go on with or without compiling the training step: its last bits will differ. auto: as before."""
    logs: tyro.conf.OmitArgPrefixes[Logs] = Logs()


def main(words: Sequence[str]) -> int:
    options = parse(Resume, "resume", words)

    from anamorph.cli.logs import check_logs
    from anamorph.runs import settings_of
    from anamorph.training.folder import RunFolder

    check_logs(options.logs)
    folder = RunFolder(options.run)
    settings = settings_of(folder)
    with folder.locked():
        seen = folder.seen()
        if not settings.source and not (options.source and options.images):
            raise UserError(f"{folder} was imported: to train it, say on what, and how much: --source SOURCE --images TOTAL")
        total = settings.images if options.images is None else options.images
        if total < max(seen, 1):
            raise UserError(
                f"{folder} has already seen {seen:,} images, more than --images {total:,}: ask for more, or leave it"
            )
        if options.source is not None:
            _adopt(folder, settings, options.source, total)
            settings = settings_of(folder)
        _amend(folder, settings, total, _machine(options, settings.machine))
        if seen >= total:
            note(f"done: {folder} has seen {seen:,} of {total:,} images; train it further with --images")
            return 0
        return run_training(folder, options.logs)


def _machine(options: Resume, machine: Machine) -> Machine:
    compiled = COMPILED[options.compile]
    return replace(
        machine,
        device=options.device or machine.device,
        threads=machine.threads if options.threads is None else options.threads,
        compiled=machine.compiled if compiled is None else compiled,
    )


def _adopt(folder: RunFolder, settings: Settings, source: str, total: int) -> None:
    """Give an imported run the images that it is to be trained on, from now on."""
    from anamorph.runs import adopt

    with report_progress("reading images") as progress:
        changes = adopt(settings, source, progress)
    folder.amend({**changes, "images": total} if changes else {})


def _amend(folder: RunFolder, settings: Settings, total: int, machine: Machine) -> None:
    """Write down what is done differently from now on, and tell it where it costs exactness."""
    from anamorph.core.config import to_plain
    from anamorph.runs import versions

    changes: dict[str, object] = {}
    if total != settings.images:
        changes["images"] = total
    if machine != settings.machine:
        note(f"going on with {machine} instead of {settings.machine}: the last bits will differ")
        changes["machine"] = to_plain(machine)
    config = folder.config()
    then, now = config.get("resumed", config.get("versions")), versions()
    if then != now:
        note(f"going on with {now} instead of {then}: the last bits may differ")
        changes["resumed"] = now
    if changes:
        folder.amend(changes)
