"""`anamorph demo`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anamorph.cli.options import note, parse

__all__ = ["main"]


@dataclass(frozen=True)
class Demo:
    """Train an adversarial latent autoencoder on handwritten digits for about a minute, and show what it learned."""

    out: Path = Path("runs/demo")
    """Where; a demonstration that was stopped there goes on."""


def main(words: Sequence[str]) -> int:
    options = parse(Demo, "demo", words)

    from rich.console import Console
    from rich.table import Table

    from anamorph.demo import show_demo, train_demo
    from anamorph.training.folder import RunFolder
    from anamorph.training.live import Live, Stop

    folder = RunFolder(options.out)
    note(f"training alae on digits (1,606 to learn from, 191 held out) in {folder}: about a minute on two cores")
    with folder.locked(), Stop().listening() as stop, Live() as live:
        for status in train_demo(folder, stop):
            live.show(status)
    if stop():
        note(f"stopped and saved at {folder.images_seen():,} images: the same command goes on")
        return 130
    shown = show_demo(folder)
    table = Table("measure", "alae, in w", "raw pixels")
    for name, (mine, pixels) in shown.table.items():
        table.add_row(name, mine, pixels)
    Console().print(table)
    for path, what in shown.pictures.items():
        print(f"{path}: {what}")
    return 0
