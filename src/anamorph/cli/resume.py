"""`anamorph resume RUN [--images TOTAL] [--source SOURCE]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from anamorph.cli.logs import Logs, check_logs
from anamorph.cli.options import RunArgument, note, report_progress
from anamorph.cli.parsing import ADVANCED, parse
from anamorph.cli.train import COMPILED, run_training
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from anamorph.runs import Settings
    from anamorph.training.folder import RunFolder
    from anamorph.training.run import ComputeSettings

__all__ = ["main"]


@dataclass(frozen=True)
class Resume:
    """Continue a training that was stopped or killed, exactly as if it had not been.

    With --images, train a finished run further.
    """

    run: RunArgument
    """Folder of the run."""
    images: int | None = None
    """New total of images to train on, no less than were seen. Default: the run's total."""
    source: Annotated[str | None, tyro.conf.arg(metavar="SOURCE")] = None
    """Data to train an imported run on; other runs keep their source."""
    batch: int | None = None
    """Images per step, at least 1. Default: as before (16 for an imported run)."""
    device: Annotated[str | None, ADVANCED] = None
    """Continue on another device, cpu or cuda; results then differ in the last bits."""
    threads: Annotated[int | None, ADVANCED] = None
    """Continue with another number of processor threads, at least 1; results may then differ in the last bits."""
    gradient_accumulation: Annotated[int | None, ADVANCED] = None
    """Compute each batch in this number of pieces, one after another, to save memory; a divisor of the batch."""
    compile: Annotated[Literal["auto", "on", "off"], ADVANCED] = "auto"
    """Continue with or without compiling the training step; results then differ in the last bits. auto: as before."""
    logs: tyro.conf.OmitArgPrefixes[Logs] = Logs()


def main(words: Sequence[str]) -> int:
    options = parse(Resume, "resume", words)

    from anamorph.runs import resumed_settings, settings_of
    from anamorph.training.folder import RunFolder

    check_logs(options.logs)
    folder = RunFolder(options.run)
    settings = settings_of(folder)
    with folder.locked():
        seen = folder.images_seen()
        if not settings.source and not (options.source and options.images):
            raise UserError(f"{folder} was imported, and has no data to train on yet: give --source SOURCE and --images TOTAL")
        total = settings.images if options.images is None else options.images
        if total < max(seen, 1):
            raise UserError(f"{folder} has already seen {seen:,} images, more than --images {total:,}: give a larger total")
        with report_progress("reading") as progress:
            new = resumed_settings(
                settings,
                total,
                _compute(options, settings.compute),
                batch=options.batch,
                source=options.source,
                progress=progress,
            )
        _save_changes(folder, settings, new)
        if seen >= total:
            note(f"done: {folder} has seen {seen:,} of {total:,} images; train it further with --images")
            return 0
        if new.lr_schedule and new.lr_schedule.decay != "none" and new.schedule.at(total - 1).lr_scale == 0:
            note(
                f"the learning rate stays at zero from its decay's end on, before --images {total:,}: start a new run for more"
            )
        return run_training(folder, options.logs)


def _compute(options: Resume, before: ComputeSettings) -> ComputeSettings:
    compiled = COMPILED[options.compile]
    return replace(
        before,
        device=options.device or before.device,
        threads=before.threads if options.threads is None else options.threads,
        compiled=before.compiled if compiled is None else compiled,
        gradient_accumulation=before.gradient_accumulation
        if options.gradient_accumulation is None
        else options.gradient_accumulation,
    )


def _save_changes(folder: RunFolder, settings: Settings, new: Settings) -> None:
    """Write changed settings to config.json, and print those that cost exactness."""
    from anamorph.core.config import to_plain
    from anamorph.runs import versions

    before = to_plain(settings)
    changes: dict[str, object] = {name: value for name, value in to_plain(new).items() if value != before[name]}
    if new.compute != settings.compute:
        note(f"continuing with {new.compute} instead of {settings.compute}: results will differ in the last bits")
    config = folder.config()
    then, now = config.get("resumed", config.get("versions")), versions()
    if then != now:
        note(f"continuing with {now} instead of {then}: results may differ in the last bits")
        changes["resumed"] = now
    if changes:
        folder.update_config(changes)
