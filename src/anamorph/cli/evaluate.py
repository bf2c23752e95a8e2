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
    from anamorph.evaluation.evaluate import chosen, evaluate
    from anamorph.evaluation.evaluated_run import evaluated_run, open_for_evaluation
    from anamorph.evaluation.networks import choose_networks
    from anamorph.evaluation.report import plain_table, write_report

    steps = chosen(options.metrics)
    options.apply_threads()
    with options.computing(), StackedProgress() as tell:
        with tell("reading images") as progress:
            model, data = open_for_evaluation(options.run, options.source, options.n, options.device, progress)
        for told in data.held_out.source.notes:
            note(told)
        with tell("learning to look") as progress:
            eyes = choose_networks(options.features, data.train.source, data.held_out.source, progress).to(options.device)
        subject = evaluated_run(options.run, data, eyes, options.n, options.seed, options.device, model)
        note(
            f"{subject.name}, {subject.settings.model} at {subject.images:,} of {subject.settings.images:,} images "
            f"({subject.which} checkpoint), against {subject.n_real:,} of {data.split}; "
            f"{', '.join(network.name for network in eyes.all)} looks"
        )
        record, looks = evaluate(subject, steps, tell, note)
        path = write_report(record, looks)
    left = "\n".join(f"not measured: {name.replace('_', ' ')} ({why})" for name, why in record.left().items())
    emit(
        options.json,
        f"{plain_table(record)}\n{left}\n{path}",
        path=path,
        subject=record.entry["subject"],
        protocol=record.entry["protocol"],
        measures={measure.name: measure for _, measure, _ in record.measures()},
        left=record.left(),
    )
    return 0
