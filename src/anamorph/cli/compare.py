"""`anamorph compare RUN RUN... [--data SOURCE]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from anamorph.cli.options import Common, check_at_least, emit, measurement_options
from anamorph.cli.parsing import parse

__all__ = ["main"]

RunArguments = Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN...")]


@dataclass(frozen=True)
class Compare(Common):
    """Measure several runs by the same metrics, and write them side by side.

    The files are comparison.html, .md, .tex and .json; results of earlier calls are reused.
    Differences within the noise do not count as wins.
    """

    runs: RunArguments = ()
    """Folders of the runs, at least two."""
    data: Annotated[str | None, tyro.conf.arg(metavar="SOURCE")] = None
    """Images that all runs are compared with. Default: each run's own held-out ones."""
    metrics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME...")] = ()
    """Only these metrics, or groups of them, as in `anamorph evaluate`. Default: all."""
    features: Annotated[str, tyro.conf.arg(metavar="NAME")] = "auto"
    """Feature network, as in `anamorph evaluate`; a small one is trained on the first run's images."""
    n: int = 5000
    """Number of images, and of samples, at least 2."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder to write. Default: comparison."""


def main(words: Sequence[str]) -> int:
    options = parse(Compare, "compare", words)
    check_at_least(2, n=options.n)

    from anamorph.cli.stacked_progress import StackedProgress
    from anamorph.evaluation.measure_runs import compare_runs

    options.apply_threads()
    with options.computing(), StackedProgress() as progress:
        result = compare_runs(options.runs, data=options.data, progress=progress, **measurement_options(options))
    paths = result.write(options.out or Path("comparison"))
    text = f"{result}\n" + "\n".join(map(str, paths))
    emit(options.json, text, paths=paths, runs=result.table.names, best=result.best)
    return 0
