"""`anamorph demo`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from anamorph.cli.options import note
from anamorph.cli.parsing import parse

__all__ = ["main"]


@dataclass(frozen=True)
class Demo:
    """Train an adversarial latent autoencoder on handwritten digits for about a minute, and show what it has learned."""

    out: Annotated[Path, tyro.conf.arg(metavar="RUN")] = Path("runs/demo")
    """Folder of the run; an interrupted demonstration there is continued."""


def main(words: Sequence[str]) -> int:
    options = parse(Demo, "demo", words)

    from rich.console import Console
    from rich.table import Table

    from anamorph.demo import show_demo, train_demo
    from anamorph.training.folder import RunFolder
    from anamorph.training.status_line import Live, Stop

    folder = RunFolder(options.out)
    note(f"training alae on digits (1,606 for training, 191 held out) in {folder}: about a minute on two cores")
    with folder.locked(), Stop().listening() as stop, Live() as live:
        for status in train_demo(folder, stop):
            live.show(status)
    if stop():
        note(f"stopped and saved at {folder.images_seen():,} images: go on with the same command")
        return 130
    shown = show_demo(folder)
    table = Table("measure", "alae, in w", "raw pixels")
    for name, (in_w, in_pixels) in shown.table.items():
        table.add_row(name, in_w, in_pixels)
    Console().print(table)
    for path, description in shown.pictures.items():
        print(f"{path}: {description}")
    return 0
