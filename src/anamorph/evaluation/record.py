"""The results of a run, saved step by step in evaluation.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from anamorph.core.config import from_plain
from anamorph.core.errors import UserError
from anamorph.core.files import read_json, write_json
from anamorph.evaluation.evaluated_run import EvaluatedRun, describe_run
from anamorph.evaluation.steps import StepResults
from anamorph.metrics.measure import Measure

__all__ = ["Record"]

FORMAT = 1


class Record:
    """The results of a subject in its run's folder, beside those taken under other conditions."""

    def __init__(self, subject: EvaluatedRun) -> None:
        self.path, self.key = subject.folder / "evaluation.json", subject.key
        self.all = _read(self.path)
        entries = self.all["entries"]
        # Of the same run as it was earlier, under the same conditions, nothing is kept: it would be shown as another model.
        for key in [key for key, entry in entries.items() if entry["subject"]["weights"] != subject.weights]:
            del entries[key]
        self.all["latest"] = self.key
        self.entry = entries.setdefault(
            self.key, {"subject": dict(describe_run(subject)), "protocol": subject.protocol, "steps": {}}
        )

    def has(self, step: str) -> bool:
        return step in self.entry["steps"]

    def add(self, step: str, group: str, results: StepResults, seconds: float) -> None:
        """Save the results of a step."""
        self._keep(step, group, results, "", seconds)

    def leave(self, step: str, group: str, why: str) -> None:
        """Save that a step was not taken, and why."""
        self._keep(step, group, StepResults([]), why, 0.0)

    def _keep(self, step: str, group: str, results: StepResults, why: str, seconds: float) -> None:
        self.entry["steps"][step] = {
            "group": group,
            "why_not": why,
            "seconds": round(seconds, 2),
            "measures": [
                asdict(measure) | {"label": measure.label, "protocol": measure.protocol} for measure in results.measures
            ],
            "data": dict(results.data),
            "curves": {name: [_short(v) for v in values] for name, values in results.curves.items()},
            "notes": list(results.notes),
        }
        write_json(self.path, self.all)

    def results_of(self, step: str) -> Mapping[str, Any]:
        """Return the results of a step, as JSON has them."""
        result: Mapping[str, Any] = self.entry["steps"][step]
        return result

    def measures(self) -> Iterator[tuple[str, Measure, float | None]]:
        """Every measure with its group, and what the data have, if that can be said."""
        for step in self.entry["steps"].values():
            for values in step["measures"]:
                given = {name: values[name] for name in ("n", "settings")}
                plain = {name: value for name, value in values.items() if name not in ("label", "protocol", *given)}
                measure = from_plain(Measure, plain, str(self.path), **given)
                yield step["group"], measure, step["data"].get(measure.name)

    def left(self) -> dict[str, str]:
        """Return the steps that were not taken, and why."""
        return {name: step["why_not"] for name, step in self.entry["steps"].items() if step["why_not"]}

    def curve(self, step: str, name: str) -> list[float]:
        """Return values saved for charts; empty if there are none."""
        values: list[float] = self.entry["steps"].get(step, {}).get("curves", {}).get(name, [])
        return values


def _short(value: float) -> float | int:
    """Round to six digits, enough for a chart."""
    return value if isinstance(value, int) else float(f"{value:.6g}")


def _read(path: Path) -> dict[str, Any]:
    """Read a record. Raises: UserError if the file is of a newer format."""
    if not path.is_file():
        return {"format": FORMAT, "latest": "", "entries": {}}
    results: dict[str, Any] = read_json(path)
    if not isinstance(results, dict) or results.get("format") != FORMAT:
        raise UserError(f"{path} has an unknown format: update anamorph, or remove the file and evaluate again")
    return results
