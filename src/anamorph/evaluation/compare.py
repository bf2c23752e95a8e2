"""Compare runs: a row per measure and protocol, and which differences are more than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from anamorph.core.errors import UserError
from anamorph.core.random import Seeded
from anamorph.evaluation.feature_cache import FeatureCache
from anamorph.evaluation.metric_names import GROUPS_IN_ORDER, title
from anamorph.evaluation.record import Record
from anamorph.evaluation.standard_errors import WIDE, bootstrap_difference
from anamorph.metrics.measure import Measure

__all__ = ["Column", "Comparison", "Interval", "Row", "compare_columns", "names_of"]

Interval = tuple[float, float]


@dataclass(frozen=True)
class Column:
    """A run of a comparison: its results, and the features and images they were computed from."""

    name: str
    record: Record
    cache: FeatureCache


@dataclass(frozen=True)
class Row:
    """A measure, taken alike of all runs that have it. best: the run with the best value; none for what has no better. others:
    for each other run, the interval of 95 % of its difference from the best; None, if the measure has no error."""

    group: str
    name: str
    protocol: str
    values: tuple[Measure | None, ...]
    data: float | None = None
    best: int | None = None
    others: dict[int, Interval | None] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return title(self.measure)

    @property
    def measure(self) -> Measure:
        """One of them, for what they have in common."""
        return next(value for value in self.values if value is not None)

    @property
    def certain(self) -> bool:
        """Whether the best is better than every other one by more than chance."""
        return self.best is not None and bool(self.others) and all(_apart(interval) for interval in self.others.values())

    def mark(self, i: int) -> str:
        """best: better than all others by more than chance. tie: among those of which none is known to be the best. first: has
        the best value of a measure without an error."""
        if self.best is None or self.values[i] is None:
            return ""
        if i == self.best:
            return "best" if self.certain else "first" if None in self.others.values() else "tie"
        interval = self.others.get(i)
        return "" if interval is None or _apart(interval) else "tie"


def _apart(interval: Interval | None) -> bool:
    """Return whether an interval leaves zero out."""
    return interval is not None and (interval[0] > 0 or interval[1] < 0)


@dataclass(frozen=True)
class Comparison:
    """The runs' names, and the rows in order."""

    names: tuple[str, ...]
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row | None:
        """Return the first row of a measure."""
        return next((row for row in self.rows if row.name == name), None)


def names_of(runs: Sequence[Path]) -> list[str]:
    """Return a short name of each run that no other has: its folder's, or as much of the path before it as is needed.

    Raises: UserError if there are fewer than two, or one is named twice.
    """
    parts_of_paths = [run.resolve().parts for run in runs]
    if len(runs) < 2:
        raise UserError(f"a comparison needs at least two runs, got {len(runs)}")
    if len(set(parts_of_paths)) < len(parts_of_paths):
        raise UserError("a run is named twice: name each once")
    for count in range(1, max(len(parts) for parts in parts_of_paths) + 1):
        names = ["/".join(parts[-count:]) for parts in parts_of_paths]
        if len(set(names)) == len(names):
            break
    return names


def compare_columns(columns: Sequence[Column], seed: int = 0) -> Comparison:
    """Return a row for each measure and protocol: numbers that were taken differently never share one."""
    measures: dict[tuple[str, str], dict[int, Measure]] = {}
    groups: dict[tuple[str, str], str] = {}
    data: dict[tuple[str, str], float | None] = {}
    for i, column in enumerate(columns):
        for group, measure, baseline in column.record.measures():
            key = (measure.name, measure.protocol)
            measures.setdefault(key, {})[i] = measure
            groups[key], data[key] = group, baseline
    rows = []
    for key, by_run in measures.items():
        values = tuple(by_run.get(i) for i in range(len(columns)))
        rows.append(_with_best(Row(groups[key], key[0], key[1], values, data[key]), columns, seed))
    rows.sort(key=lambda row: GROUPS_IN_ORDER.index(row.group))
    return Comparison(tuple(column.name for column in columns), tuple(rows))


def _with_best(row: Row, columns: Sequence[Column], seed: int) -> Row:
    """Add the best run, and the intervals of the differences from it."""
    finite = {i: value for i, value in enumerate(row.values) if value is not None and math.isfinite(value.value)}
    if row.measure.better == "neither" or len(finite) < 2:
        return row
    sign = 1 if row.measure.better == "high" else -1
    best = max(finite, key=lambda i: sign * finite[i].value)
    others = {i: _difference(row, i, best, columns, seed) for i in finite if i != best}
    return Row(row.group, row.name, row.protocol, row.values, row.data, best, others)


def _difference(row: Row, i: int, best: int, columns: Sequence[Column], seed: int) -> Interval | None:
    """Return the difference of two runs. Of a measure of images, over the same images drawn again; of others, from both
    errors.
    """
    curves = [_values_per_image(columns[j].record, row.name) for j in (i, best)]
    if curves[0] and len(curves[0]) == len(curves[1]):
        return bootstrap_difference(torch.tensor(curves[0]), torch.tensor(curves[1]), Seeded(seed, "bootstrap", row.name))
    a, b = row.values[i], row.values[best]
    if a is None or b is None or a.error is None or b.error is None:
        return None
    wide, middle = WIDE * math.hypot(a.error, b.error), a.value - b.value
    return middle - wide, middle + wide


def _values_per_image(record: Record, name: str) -> list[float]:
    """Return the values of each image that a measure is the mean of, if it is one."""
    return record.curve("errors", name) or record.curve("distance", name)
