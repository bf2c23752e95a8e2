"""`anamorph evaluate RUN [SOURCE]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from anamorph.cli.options import Common, RunArgument, emit, note, parse

__all__ = ["main"]

SourceArgument = Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="SOURCE")]


@dataclass(frozen=True)
class Evaluate(Common):
    """Measure a run by all that its model can do; write RUN/evaluation/evaluation.json and report.html. What was measured
    once is kept: an evaluation that was interrupted goes on."""

    run: RunArgument = tyro.MISSING
    """The run's folder."""
    source: SourceArgument = None
    """The images that it is held against; by default its own, held out."""
    metrics: tuple[str, ...] = ()
    """Only these measures, or groups of them: samples, reconstructions, latent-space, known-factors, likelihood."""
    features: str = "auto"
    """The network that looks (`anamorph features list`). auto: the standard ones as far as their files are at hand; else a
    small one, trained on these images in about a minute."""
    n: int = 5000
    """Images, and samples, of each kind; 10,000 and more are steadier."""


def main(words: Sequence[str]) -> int:
    options = parse(Evaluate, "evaluate", words)

    from anamorph.cli.stacked_progress import StackedProgress
    from anamorph.evaluation.measure_runs import evaluate_run

    options.apply_threads()
    with options.computing(), StackedProgress() as progress:
        result = evaluate_run(
            options.run,
            data=options.source,
            metrics=options.metrics,
            features=options.features,
            n=options.n,
            seed=options.seed,
            device=options.device,
            progress=progress,
            note=note,
        )
    emit(options.json, f"{result}\n{result.report}", **result.to_dict())
    return 0
