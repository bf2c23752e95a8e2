"""Runs side by side: noise is no win, and what was taken differently is not in one row."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from anamorph.core.errors import UserError
from anamorph.core.random import Seeded
from anamorph.evaluation.compare import Column, Row, compare_columns, names_of
from anamorph.evaluation.comparison import latex, markdown
from anamorph.evaluation.standard_errors import bootstrap_difference, jackknife, jackknifed, mean_error, of_share
from anamorph.metrics.measure import Measure


class Kept:
    """Stands for a record: measures, and values of images."""

    def __init__(self, measures: list[Measure], curves: dict[str, list[float]] | None = None) -> None:
        self._measures, self._curves = measures, curves or {}

    def measures(self) -> Any:
        return [("samples", measure, 0.5) for measure in self._measures]

    def curve(self, step: str, name: str) -> list[float]:
        return self._curves.get(name, []) if step == "errors" else []


def columns(*records: Kept) -> list[Column]:
    return [Column(f"run{i}", record, None) for i, record in enumerate(records)]  # type: ignore[arg-type]


def fid(value: float, error: float | None = 1.0, n: int = 100) -> Measure:
    return Measure("fid", value, "", "low", {"samples": n}, "seer", "none", "held out", error)


def test_a_difference_within_its_error_is_no_win() -> None:
    row = compare_columns(columns(Kept([fid(10)]), Kept([fid(11)]), Kept([fid(30)]))).rows[0]
    assert row.best == 0
    assert not row.certain
    assert [row.mark(i) for i in range(3)] == ["tie", "tie", ""]
    clear = compare_columns(columns(Kept([fid(10)]), Kept([fid(20)]))).rows[0]
    assert [clear.mark(i) for i in range(2)] == ["best", ""]
    assert clear.others[1] == pytest.approx((10 - 2.262 * 2**0.5, 10 + 2.262 * 2**0.5))


def test_without_an_error_nothing_is_won() -> None:
    row = compare_columns(columns(Kept([fid(10, None)]), Kept([fid(99, None)]))).rows[0]
    assert [row.mark(i) for i in range(2)] == ["first", ""]
    assert not row.certain


def test_numbers_taken_differently_have_rows_of_their_own() -> None:
    found = compare_columns(columns(Kept([fid(10)]), Kept([fid(1, n=200)])))
    assert len(found.rows) == 2
    assert all(row.best is None for row in found.rows)


def test_measures_of_the_same_images_are_compared_in_pairs() -> None:
    base = torch.randn(200, generator=torch.Generator().manual_seed(0)) * 10
    better, worse = base.tolist(), (base + 0.2).tolist()
    measures = [
        Measure("reconstruction_mse", float(torch.tensor(v).mean()), "", "low", {"images": 200}, error=0.7)
        for v in (better, worse)
    ]
    row = compare_columns(
        columns(*(Kept([m], {"reconstruction_mse": v}) for m, v in zip(measures, (better, worse), strict=True)))
    ).rows[0]
    assert row.certain  # every image is 0.2 worse, though images differ by 10
    unpaired = compare_columns(columns(*(Kept([m]) for m in measures))).rows[0]
    assert not unpaired.certain


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Of two models that are equal, a difference is called one in about 5 % of comparisons."""
    called = 0
    for i in range(200):
        a, b = (Seeded(i, name).normal(60) for name in "ab")
        low, high = bootstrap_difference(a, b, Seeded(i, "c"))
        called += low > 0 or high < 0
    assert 3 <= called <= 22


def test_errors_are_those_of_known_laws() -> None:
    x = Seeded(0).normal(1000)
    assert jackknifed(1000, lambda rows: float(x[rows].mean())) == pytest.approx(mean_error(x), rel=0.5)
    assert mean_error(x) == pytest.approx(1000**-0.5, rel=0.1)
    assert jackknife([1.0] * 10) == 0
    assert of_share(0.5, 100) == pytest.approx(0.05)
    assert of_share(1.0, 100) > 0  # all right of a hundred is not certainty


def test_tables_say_what_they_should() -> None:
    found = compare_columns(columns(Kept([fid(10)]), Kept([fid(20)])))
    text = markdown(found)
    assert "| FID [seer] ↓ | **10 ± 1** | 20 ± 1 | 0.5 |" in text
    assert "100 samples; none; held out" in text
    assert r"\textbf{10 $\pm$ 1} & 20 $\pm$ 1 \\" in latex(found)


def test_signs_that_end_a_cell_are_written_so_that_they_do_not() -> None:
    error = Measure("latent_error", 1.0, "", "low", {"samples": 9})
    line = markdown(compare_columns(columns(Kept([error]), Kept([error])))).splitlines()[2]
    assert line.replace(r"\|", "").count("|") == 5
    assert r"\textbar E(G(w)) - w\textbar" in latex(compare_columns(columns(Kept([error]), Kept([error]))))


def test_names_are_as_short_as_they_can_be(tmp_path: Path) -> None:
    a, b, c = tmp_path / "one" / "run", tmp_path / "two" / "run", tmp_path / "two" / "other"
    assert names_of([a, c]) == ["run", "other"]
    assert names_of([a, b]) == ["one/run", "two/run"]
    with pytest.raises(UserError, match="at least two"):
        names_of([a])
    with pytest.raises(UserError, match="twice"):
        names_of([a, a])


def test_a_row_without_a_better_has_no_best() -> None:
    copies = [Measure("copies", value, "", "neither", {"samples": 9}) for value in (0.1, 0.5)]
    row = compare_columns(columns(*(Kept([m]) for m in copies))).rows[0]
    assert isinstance(row, Row)
    assert not any(row.mark(i) for i, _ in itertools.product(range(2), [0]))
