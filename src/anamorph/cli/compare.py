"""`anamorph compare RUN RUN... [--data SOURCE]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from anamorph.cli.options import Common, emit, note, parse

__all__ = ["main"]

RunArguments = Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN...")]


@dataclass(frozen=True)
class Compare(Common):
    """Measure runs by the same yardsticks, and write them side by side: comparison.html, .md, .tex and .json. What was measured
    once is not measured again. Noise is not called a win."""

    runs: RunArguments = ()
    """The runs' folders."""
    data: str | None = None
    """The images that all are held against; by default each run's own, held out."""
    metrics: tuple[str, ...] = ()
    """Only these measures, or groups of them, as in `evaluate`."""
    features: str = "auto"
    """The network that looks at all of them, as in `evaluate`; a small one is trained on the first run's images."""
    n: int = 5000
    """Images, and samples, of each kind."""


def main(words: Sequence[str]) -> int:
    options = parse(Compare, "compare", words)

    from anamorph.cli.stacked_progress import StackedProgress
    from anamorph.evaluation.measure_runs import compare_runs

    options.apply_threads()
    with options.computing(), StackedProgress() as progress:
        result = compare_runs(
            options.runs,
            data=options.data,
            metrics=options.metrics,
            features=options.features,
            n=options.n,
            seed=options.seed,
            device=options.device,
            progress=progress,
            note=note,
        )
    paths = result.write(options.out or Path("comparison"))
    text = f"{result}\n" + "\n".join(map(str, paths))
    emit(options.json, text, paths=paths, runs=result.table.names, best=result.best)
    return 0
