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
    from anamorph.evaluation.compare import Column, compare_runs, names_of
    from anamorph.evaluation.comparison import markdown, write_comparison
    from anamorph.evaluation.evaluate import chosen, evaluate
    from anamorph.evaluation.evaluated_run import evaluated_run, open_for_evaluation
    from anamorph.evaluation.networks import choose_networks
    from anamorph.evaluation.report import write_report

    names, steps = names_of(options.runs), chosen(options.metrics)
    options.apply_threads()
    columns, eyes = [], None
    with options.computing(), StackedProgress() as tell:
        for name, run in zip(names, options.runs, strict=True):
            with tell("reading images") as progress:
                model, data = open_for_evaluation(run, options.data, options.n, options.device, progress)
            if eyes is None:
                with tell("learning to look") as progress:
                    eyes = choose_networks(options.features, data.train.source, data.held_out.source, progress).to(
                        options.device
                    )
            subject = evaluated_run(run, data, eyes, options.n, options.seed, options.device, model)
            note(f"{name}: {subject.images:,} of {subject.settings.images:,} images, against {data.split}")
            record, looks = evaluate(subject, steps, tell, lambda text, name=name: note(f"{name}: {text}"))  # type: ignore[misc]
            write_report(record, looks)
            columns.append(Column(name, record, looks))
    found = compare_runs(columns, options.seed)
    paths = write_comparison(found, columns, options.out or Path("comparison"))
    emit(
        options.json,
        markdown(found).split("\nHow each was taken")[0] + "\n".join(map(str, paths)),
        paths=paths,
        runs=found.names,
        best={row.name: found.names[row.best] for row in found.rows if row.best is not None and row.certain},
    )
    return 0
