"""`anamorph evaluate RUN [SOURCE]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from anamorph.cli.options import ModelOptions, RunArgument, check_at_least, emit, measurement_options
from anamorph.cli.parsing import parse

__all__ = ["main"]

SourceArgument = Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="[SOURCE]")]


@dataclass(frozen=True)
class Evaluate(ModelOptions):
    """Measure a run by every metric that its model allows.

    RUN/evaluation/ gets evaluation.json and report.html; an interrupted evaluation continues.
    """

    run: RunArgument = tyro.MISSING
    """Folder of the run."""
    source: SourceArgument = None
    """Images to compare with. Default: the run's own held-out ones."""
    metrics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME...")] = ()
    """Only these metrics, or groups of them: samples, reconstructions, latent-space, known-factors, likelihood. Default:
    all."""
    features: Annotated[str, tyro.conf.arg(metavar="NAME")] = "auto"
    """Feature network of FID and others (`anamorph features list`). auto: the standard ones, if their files are there; else a
    small one, trained on these images in about a minute."""
    n: int = 5000
    """Number of images, and of samples, at least 2; 10,000 and more give steadier results."""


def main(words: Sequence[str]) -> int:
    options = parse(Evaluate, "evaluate", words)
    check_at_least(2, n=options.n)

    from anamorph.cli.stacked_progress import StackedProgress
    from anamorph.evaluation.measure_runs import evaluate_run

    options.apply_threads()
    with options.computing(), StackedProgress() as progress:
        result = evaluate_run(options.run, data=options.source, progress=progress, **measurement_options(options))
    emit(options.json, f"{result}\n{result.report}", **result.to_dict())
    return 0
