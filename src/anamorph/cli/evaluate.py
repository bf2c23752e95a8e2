"""`anamorph evaluate RUN [SOURCE]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from anamorph.cli.options import ModelOptions, RunArgument, check_at_least, emit, note
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
    from anamorph.evaluation.evaluate import chosen, evaluate
    from anamorph.evaluation.evaluated_run import evaluated_run, open_for_evaluation
    from anamorph.evaluation.networks import choose_networks
    from anamorph.evaluation.report import plain_table, write_report

    steps = chosen(options.metrics)
    options.apply_threads()
    with options.computing(), StackedProgress() as report:
        with report("reading images") as progress:
            model, data = open_for_evaluation(options.run, options.source, options.n, options.device, progress)
        for text in data.held_out.source.notes:
            note(text)
        with report("preparing feature networks") as progress:
            networks = choose_networks(options.features, data.train.source, data.held_out.source, progress).to(options.device)
        evaluated = evaluated_run(options.run, data, networks, options.n, options.seed, options.device, model)
        note(
            f"{evaluated.name}, {evaluated.settings.model} at {evaluated.images:,} of {evaluated.settings.images:,} images "
            f"({evaluated.which} checkpoint), against {evaluated.n_real:,} of {data.split}; "
            f"features by {', '.join(network.name for network in networks.all)}"
        )
        record, cache = evaluate(evaluated, steps, report, note)
        path = write_report(record, cache)
    omitted = "\n".join(f"not measured: {name.replace('_', ' ')} ({why})" for name, why in record.left().items())
    emit(
        options.json,
        f"{plain_table(record)}\n{omitted}\n{path}",
        path=path,
        subject=record.entry["subject"],
        protocol=record.entry["protocol"],
        measures={measure.name: measure for _, measure, _ in record.measures()},
        left=record.left(),
    )
    return 0
