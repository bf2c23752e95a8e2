"""`anamorph compare RUN RUN... [--data SOURCE]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from anamorph.cli.options import Common, check_at_least, emit, note
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
    from anamorph.evaluation.compare import Column, compare_runs, names_of
    from anamorph.evaluation.comparison import markdown, write_comparison
    from anamorph.evaluation.evaluate import chosen, evaluate
    from anamorph.evaluation.evaluated_run import evaluated_run, open_for_evaluation
    from anamorph.evaluation.networks import choose_networks
    from anamorph.evaluation.report import write_report

    names, steps = names_of(options.runs), chosen(options.metrics)
    options.apply_threads()
    columns, networks = [], None
    with options.computing(), StackedProgress() as report:
        for name, run in zip(names, options.runs, strict=True):
            with report("reading images") as progress:
                model, data = open_for_evaluation(run, options.data, options.n, options.device, progress)
            if networks is None:
                with report("preparing feature networks") as progress:
                    networks = choose_networks(options.features, data.train.source, data.held_out.source, progress).to(
                        options.device
                    )
            evaluated = evaluated_run(run, data, networks, options.n, options.seed, options.device, model)
            note(f"{name}: {evaluated.images:,} of {evaluated.settings.images:,} images, against {data.split}")
            record, cache = evaluate(evaluated, steps, report, lambda text, name=name: note(f"{name}: {text}"))  # type: ignore[misc]
            write_report(record, cache)
            columns.append(Column(name, record, cache))
    comparison = compare_runs(columns, options.seed)
    paths = write_comparison(comparison, columns, options.out or Path("comparison"))
    emit(
        options.json,
        markdown(comparison).split("\nHow each was taken")[0] + "\n".join(map(str, paths)),
        paths=paths,
        runs=comparison.names,
        best={row.name: comparison.names[row.best] for row in comparison.rows if row.best is not None and row.certain},
    )
    return 0
