"""Further places to log to: TensorBoard and Weights & Biases."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from anamorph.core.config import to_plain
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from anamorph.runs import Settings
    from anamorph.training.folder import RunFolder

__all__ = ["Logs", "check_logs", "open_logs"]

Log = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Logs:
    """Further places to log to, beside metrics.jsonl."""

    tensorboard: bool = False
    """Also write TensorBoard events into the run's folder (needs anamorph[tensorboard])."""
    wandb: bool = False
    """Also log to Weights & Biases (needs anamorph[wandb])."""


def check_logs(logs: Logs) -> None:
    """Check that the packages are installed.

    Raises:
        UserError: for a package that is not.
    """
    for name in [name for name, enabled in asdict(logs).items() if enabled]:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(f'--{name} needs a package that is not installed: pip install "anamorph[{name}]"') from error


@contextmanager
def open_logs(logs: Logs, folder: RunFolder, settings: Settings) -> Iterator[Log]:
    """Yield a function that writes a line of the log to every further place."""
    with ExitStack() as stack:
        writers: list[Log] = []
        if logs.tensorboard:
            writers.append(stack.enter_context(_tensorboard(folder)))
        if logs.wandb:
            writers.append(stack.enter_context(_wandb(folder, settings)))

        def log(record: dict[str, Any]) -> None:
            for write in writers:
                write(record)

        yield log


def _scalars(record: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in record.items() if "/" in name and isinstance(value, float)}


@contextmanager
def _tensorboard(folder: RunFolder) -> Iterator[Log]:
    from torch.utils.tensorboard import SummaryWriter

    # A resumed training repeats the steps since its last checkpoint: their earlier events are purged.
    writer = SummaryWriter(str(folder.path / "tensorboard"), purge_step=folder.images_seen() + 1)

    def log(record: dict[str, Any]) -> None:
        for name, value in _scalars(record).items():
            writer.add_scalar(name, value, record["images"])

    try:
        yield log
    finally:
        writer.close()


@contextmanager
def _wandb(folder: RunFolder, settings: Settings) -> Iterator[Log]:
    import wandb

    started = f"{folder.path.name}/{folder.config()['created']}"
    run_id = hashlib.blake2b(started.encode(), digest_size=8).hexdigest()  # so that a resumed training continues its run there
    options = {"id": run_id, "resume": "allow", "config": to_plain(settings)}
    run = wandb.init(project="anamorph", name=folder.path.name, dir=str(folder.path), **options)
    try:
        yield lambda record: run.log({"images": record["images"], **_scalars(record)})
    finally:
        run.finish()
