"""Further places to log to: TensorBoard, Weights & Biases."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from anamorph.cli.train import Logs
from anamorph.core.config import to_plain
from anamorph.core.errors import UserError
from anamorph.runs import Settings
from anamorph.training.folder import RunFolder

__all__ = ["check_logs", "open_logs"]

Log = Callable[[dict[str, Any]], None]


def check_logs(logs: Logs) -> None:
    """Raises: UserError if what was asked for is not installed."""
    wanted = {"tensorboard": logs.tensorboard, "wandb": logs.wandb}
    for name in [name for name, asked in wanted.items() if asked]:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(f'--{name} needs a package that is not installed: pip install "anamorph[{name}]"') from error


@contextmanager
def open_logs(logs: Logs, folder: RunFolder, settings: Settings) -> Iterator[Log]:
    """Yields a function that takes each line of the log to wherever was asked for."""
    with ExitStack() as stack:
        places: list[Log] = []
        if logs.tensorboard:
            places.append(stack.enter_context(_tensorboard(folder)))
        if logs.wandb:
            places.append(stack.enter_context(_wandb(folder, settings)))

        def log(record: dict[str, Any]) -> None:
            for place in places:
                place(record)

        yield log


def _scalars(record: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in record.items() if "/" in name and isinstance(value, float)}


@contextmanager
def _tensorboard(folder: RunFolder) -> Iterator[Log]:
    from torch.utils.tensorboard import SummaryWriter

    # What a killed training had logged beyond its last checkpoint is logged again: the older events are taken back.
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
    name = hashlib.blake2b(started.encode(), digest_size=8).hexdigest()  # so that a resumed training goes on in the same run
    facts = {"id": name, "resume": "allow", "config": to_plain(settings)}
    run = wandb.init(project="anamorph", name=folder.path.name, dir=str(folder.path), **facts)
    try:
        yield lambda record: run.log({"images": record["images"], **_scalars(record)})
    finally:
        run.finish()
