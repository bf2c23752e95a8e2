"""`anamorph resume RUN [--images TOTAL]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import tyro

from anamorph.cli.options import RunArgument, note, parse
from anamorph.cli.train import Logs, run_training
from anamorph.core.errors import UserError

__all__ = ["main"]


@dataclass(frozen=True)
class Resume:
    """Go on where a training was stopped, killed or finished, as if it never had been."""

    run: RunArgument
    """The run's folder."""
    images: int | None = None
    """A new total of images to see."""
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
        seen = max((int(path.name[:12]) for path in folder.saved()), default=0)
        total = options.images or settings.images
        if total < seen:
            raise UserError(
                f"{folder} has already seen {seen:,} images, more than --images {total:,}: ask for more, or leave it"
            )
        if total != settings.images:
            replace(settings, images=total).write(folder)
        if seen >= total:
            note(f"done: {folder} has seen {seen:,} of {total:,} images; train it further with --images")
            return 0
        return run_training(folder, options.logs)
