"""Runs evaluated and compared by their folders, as the command line and Python call it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from anamorph.evaluation.compare import Column, Comparison, compare_columns, names_of
from anamorph.evaluation.comparison import as_plain, cell_text, markdown, write_comparison
from anamorph.evaluation.evaluate import evaluate, select_steps
from anamorph.evaluation.evaluated_run import evaluated_run, open_for_evaluation
from anamorph.evaluation.feature_cache import FeatureCache, StepProgress, no_step_progress
from anamorph.evaluation.metric_names import arrow, number, title, value_of
from anamorph.evaluation.networks import FeatureNetworks, choose_networks
from anamorph.evaluation.record import Record
from anamorph.evaluation.report import plain_table, write_report
from anamorph.evaluation.steps import EvaluationStep
from anamorph.metrics.measure import Measure

__all__ = ["RunComparison", "RunEvaluation", "compare_runs", "evaluate_run"]

N = 5000


def _no_note(text: str) -> None:
    """Ignore a note."""


@dataclass(frozen=True, repr=False)
class RunEvaluation:
    """The measures of a run.

    Args:
        record: every result, as kept in RUN/evaluation/evaluation.json.
        cache: the features, codes and images that the results were computed from.
        report: the page that was written.
    """

    record: Record
    cache: FeatureCache
    report: Path

    @property
    def measures(self) -> dict[str, Measure]:
        """Each measure by its name, such as "fid"."""
        return {measure.name: measure for _, measure, _ in self.record.measures()}

    @property
    def not_measured(self) -> dict[str, str]:
        """The steps that were left out, each with the reason."""
        return self.record.left()

    def to_dict(self) -> dict[str, Any]:
        """Return the results as plain values, as JSON has them."""
        entry = self.record.entry
        measures = {name: asdict(measure) for name, measure in self.measures.items()}
        return {
            "path": str(self.report),
            "subject": entry["subject"],
            "protocol": entry["protocol"],
            "measures": measures,
            "left": self.not_measured,
        }

    def __repr__(self) -> str:
        name = self.record.entry["subject"]["name"]
        return f"RunEvaluation({name!r}: {len(self.measures)} measures, {len(self.not_measured)} not measured)"

    def __str__(self) -> str:
        left = [f"not measured: {name.replace('_', ' ')} ({why})" for name, why in self.not_measured.items()]
        return "\n".join([plain_table(self.record), *left])

    def _repr_html_(self) -> str:
        rows = [
            (f"{title(measure)} {arrow(measure)}", value_of(measure), "" if data is None else number(data))
            for _, measure, data in self.record.measures()
        ]
        return _html_table(("measure", "value", "data"), rows)


@dataclass(frozen=True, repr=False)
class RunComparison:
    """Runs side by side.

    Args:
        table: a row per measure, a column per run.
        columns: the results of each run.
    """

    table: Comparison
    columns: tuple[Column, ...]

    @property
    def best(self) -> dict[str, str]:
        """The run that is better than all others by more than chance, by measure; measures without one are left out."""
        rows = [row for row in self.table.rows if row.certain]
        return {row.name: self.table.names[row.best] for row in rows if row.best is not None}

    def write(self, out: str | Path) -> list[Path]:
        """Write comparison.html, .md, .tex and .json into a folder; returns their paths."""
        return write_comparison(self.table, self.columns, Path(out))

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain values, as comparison.json has them."""
        return as_plain(self.table, self.columns)

    def __repr__(self) -> str:
        return f"RunComparison({', '.join(self.table.names)}: {len(self.table.rows)} measures)"

    def __str__(self) -> str:
        return markdown(self.table).split("\nHow each was measured")[0]

    def _repr_html_(self) -> str:
        rows = [
            (f"{row.title} {arrow(row.measure)}", *(cell_text(row, i) for i in range(len(self.columns))))
            for row in self.table.rows
        ]
        return _html_table(("measure", *self.table.names), rows)


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["".join(f"<th>{escape(text)}</th>" for text in head)]
    lines += ["".join(f"<td>{escape(text)}</td>" for text in row) for row in rows]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def evaluate_run(
    path: str | PathLike[str],
    *,
    data: str | None = None,
    metrics: Sequence[str] | None = None,
    features: str = "auto",
    n: int = N,
    seed: int = 0,
    device: str = "cpu",
    progress: StepProgress = no_step_progress,
    note: Callable[[str], None] = _no_note,
) -> RunEvaluation:
    """Measure a run, and write RUN/evaluation/evaluation.json and report.html. Results of an earlier call are reused.

    Args:
        path: the run's folder.
        data: the source of the images that it is compared with; by default its own, held out.
        metrics: names of measures, or of groups of them, such as "samples"; by default all that the model can have.
        features: the feature network, or "auto".
        n: how many images, and samples, of each kind.
        seed: of all random numbers: samples, pairs, bootstrap.
        device: such as "cpu" or "cuda".
        progress: given the name of a piece of work, returns a context manager that yields a function of (done, total).
        note: is given messages for the user.

    Raises:
        UserError: if there is no run, a metric is unknown, or the images are of another size.
    """
    steps = select_steps(metrics or ())
    result, _ = _evaluate(Path(path), data, steps, features, n, seed, device, progress, note, None)
    return result


def compare_runs(
    paths: Sequence[str | PathLike[str]],
    *,
    data: str | None = None,
    metrics: Sequence[str] | None = None,
    features: str = "auto",
    n: int = N,
    seed: int = 0,
    device: str = "cpu",
    progress: StepProgress = no_step_progress,
    note: Callable[[str], None] = _no_note,
) -> RunComparison:
    """Measure several runs by the same feature networks, and compare them. Arguments as for `evaluate_run`.

    Raises:
        UserError: as `evaluate_run`, or for fewer than two runs, or the same run twice.
    """
    runs = [Path(path) for path in paths]
    names, steps, networks = names_of(runs), select_steps(metrics or ()), None
    columns = []
    for name, run in zip(names, runs, strict=True):

        def named_note(text: str, name: str = name) -> None:
            note(f"{name}: {text}")

        result, networks = _evaluate(run, data, steps, features, n, seed, device, progress, named_note, networks)
        columns.append(Column(name, result.record, result.cache))
    return RunComparison(compare_columns(columns, seed), tuple(columns))


@torch.no_grad()
def _evaluate(
    path: Path,
    data: str | None,
    steps: Sequence[EvaluationStep],
    features: str,
    n: int,
    seed: int,
    device: str,
    progress: StepProgress,
    note: Callable[[str], None],
    networks: FeatureNetworks | None,
) -> tuple[RunEvaluation, FeatureNetworks]:
    """Evaluate a run by the given networks; without any, by those that `features` names for its images."""
    with progress("reading images") as count:
        model, images = open_for_evaluation(path, data, n, device, count)
    for text in images.held_out.source.notes:
        note(text)
    if networks is None:
        with progress("training the feature network") as count:
            networks = choose_networks(features, images.train.source, images.held_out.source, count).to(device)
    subject = evaluated_run(path, images, networks, n, seed, device, model)
    note(
        f"{subject.name}, {subject.settings.model} at {subject.images:,} of {subject.settings.images:,} images "
        f"({subject.which} checkpoint), against {subject.n_real:,} of {images.split}; "
        f"feature networks: {', '.join(network.name for network in networks.all)}"
    )
    record, cache = evaluate(subject, steps, progress, note)
    return RunEvaluation(record, cache, write_report(record, cache)), networks
