"""A comparison as Markdown, LaTeX, JSON and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from torch import Tensor

from anamorph.core.files import atomic_write, write_json
from anamorph.core.model import Encodes, Samples
from anamorph.evaluation.charts import parallel
from anamorph.evaluation.compare import Column, Comparison, Interval, Row
from anamorph.evaluation.metric_names import arrow, error_of, explanation, number
from anamorph.evaluation.page import figure, page, picture, section, sprite, table

__all__ = ["as_plain", "cell_text", "latex", "markdown", "write_comparison"]

MARKS = {"best": "**", "tie": "=", "first": "°", "": ""}
NOTES = (
    "Bold: better than every other run by more than chance (95 % intervals of the differences, in pairs: over the same images "
    "drawn again where a measure is a mean of images, else from both standard errors). =: not known to be worse than the best. "
    "°: the best value of a measure that has no error, so that chance is not ruled out. Each run was trained once: what "
    "another seed of its training would change is not in these intervals. ± is one standard error."
)
AXES = (
    "fid",
    "precision",
    "recall",
    "coverage",
    "fid_of_reconstructions",
    "reconstruction_mse",
    "reconstruction_ssim",
    "feature_distance",
    "lpips",
    "latent_error_relative",
    "ppl_w_full",
    "1nn_accuracy",
    "mig",
)
SHOWN, DRAWN = 8, 16


def write_comparison(comparison: Comparison, columns: Sequence[Column], out: Path) -> list[Path]:
    """Write comparison.md, .tex, .json and .html into a folder; returns their paths."""
    texts = {"md": markdown(comparison), "tex": latex(comparison), "html": _page(comparison, columns)}
    for kind, text in texts.items():
        with atomic_write(out / f"comparison.{kind}") as temporary:
            temporary.write_text(text, encoding="utf-8")
    write_json(out / "comparison.json", as_plain(comparison, columns))
    return [out / f"comparison.{kind}" for kind in ("html", "md", "tex", "json")]


def as_plain(comparison: Comparison, columns: Sequence[Column]) -> dict[str, Any]:
    """Return a comparison as plain values, as comparison.json has them."""
    return {
        "runs": {column.name: column.record.entry["subject"] for column in columns},
        "rows": [
            {
                "group": row.group,
                "measure": row.name,
                "protocol": row.protocol,
                "better": row.measure.better,
                "data": row.data,
                "values": {n: None if v is None else asdict(v) for n, v in zip(comparison.names, row.values, strict=True)},
                "marks": {name: row.mark(i) for i, name in enumerate(comparison.names)},
                "difference_from_best_95": {comparison.names[i]: interval for i, interval in row.others.items()},
            }
            for row in comparison.rows
        ],
        "not_measured": {column.name: column.record.left() for column in columns},
    }


def cell_text(row: Row, i: int) -> str:
    """Return the value of run i with its standard error; an empty text if it was not measured."""
    measure = row.values[i]
    return "" if measure is None else f"{number(measure.value, measure.error)}{error_of(measure)}"


def markdown(comparison: Comparison) -> str:
    """Return a table with a row for each measure, and below it how each was taken."""
    lines = ["| | " + " | ".join(comparison.names) + " | data |", "|---" * (len(comparison.names) + 2) + "|"]
    for row in comparison.rows:
        cells = []
        for i in range(len(comparison.names)):
            text, mark = cell_text(row, i), row.mark(i)
            cells.append(f"**{text}**" if mark == "best" else f"{text} {MARKS[mark]}".strip() if text else "")
        data = "" if row.data is None else number(row.data)
        name = row.title.replace("|", r"\|")
        lines.append(f"| {name} {arrow(row.measure)} | {' | '.join(cells)} | {data} |")
    protocols = "\n".join(f"* {row.title}: {_protocol(row)}" for row in comparison.rows)
    return "\n".join([*lines, "", NOTES, "", "How each was measured:", "", protocols, ""])


def latex(comparison: Comparison) -> str:
    """Return a tabular; the best is bold."""
    head = " & ".join(["", *map(_tex, comparison.names)])
    lines = [rf"\begin{{tabular}}{{l{'r' * len(comparison.names)}}}", r"\hline", rf"{head} \\", r"\hline"]
    group = ""
    for row in comparison.rows:
        if group not in ("", row.group):
            lines.append(r"\hline")
        group = row.group
        cells = []
        for i in range(len(comparison.names)):
            text, mark = _tex(cell_text(row, i)).replace("±", r"$\pm$"), row.mark(i)
            cells.append(rf"\textbf{{{text}}}" if mark == "best" else text + (r"$^{=}$" if mark == "tie" else ""))
        way = {"↓": r" $\downarrow$", "↑": r" $\uparrow$", "": ""}[arrow(row.measure)]
        lines.append(rf"{_tex(row.title)}{way} & {' & '.join(cells)} \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}", ""])


def _tex(text: str) -> str:
    for sign in "\\&%$#_{}":
        text = text.replace(sign, rf"\{sign}" if sign != "\\" else r"\textbackslash ")
    return text.replace("|", r"\textbar ")


def _page(comparison: Comparison, columns: Sequence[Column]) -> str:
    about = [column.record.entry["subject"] for column in columns]
    runs = ", ".join(f"{c.name} ({a['model']}, {a['images']:,} images)" for c, a in zip(columns, about, strict=True))
    networks = sorted({network.name for column in columns for network in column.cache.subject.networks.all})
    summary = f"{runs}. Feature networks: {', '.join(networks)}."
    heading = f"<h1>{' · '.join(map(escape, comparison.names))}</h1><p class='soft'>{escape(summary)}</p>"
    body = heading + section("At a glance", _overview(comparison)) + section("Measures", _table(comparison), notes=NOTES)
    body += _reconstructions(columns) + _samples(columns)
    return page("comparison: " + ", ".join(comparison.names), body)


def _table(comparison: Comparison) -> str:
    rows, group = [], ""
    for row in comparison.rows:
        if row.group != group:
            group = row.group
            rows.append(f'<tr class="group"><th colspan="{len(comparison.names) + 2}">{escape(group)}</th></tr>')
        alone = sum(other.title == row.title for other in comparison.rows) == 1
        how = explanation(row.measure) + ("" if alone else f"; {_protocol(row)}")
        cells = "".join(_html_cell(row, i) for i in range(len(comparison.names)))
        data = "" if row.data is None else number(row.data)
        name = f"{escape(row.title)} {arrow(row.measure)}<span class='under'>{escape(how)}</span>"
        rows.append(f"<tr><td>{name}</td>{cells}<td class='n'>{data}</td></tr>")
    lines = "".join(f"<li>{escape(row.title)}: {escape(_protocol(row))}</li>" for row in comparison.rows)
    how = f"<details><summary>How each was measured</summary><ul class='soft'>{lines}</ul></details>"
    return table(["measure", *comparison.names, "data"], rows) + how


def _protocol(row: Row) -> str:
    """Return how many of what it was taken over, and what else decides it."""
    return row.protocol.removeprefix(row.measure.label).lstrip("; ")


def _html_cell(row: Row, i: int) -> str:
    measure, mark = row.values[i], row.mark(i)
    if measure is None:
        return "<td></td>"
    error = f" <small>{error_of(measure)}</small>"
    tooltip = f" title='difference from the best: {_interval(row.others[i])}'" if i in row.others else ""
    sign = f" {MARKS[mark]}" if mark in ("tie", "first") else ""
    return f"<td class='n {mark}'{tooltip}>{number(measure.value, measure.error)}{sign}{error}</td>"


def _interval(interval: Interval | None) -> str:
    return "no interval" if interval is None else f"{interval[0]:.3g} to {interval[1]:.3g}"


def _overview(comparison: Comparison) -> str:
    """Every chosen measure from its worst value to its best."""
    rows = [row for name in AXES if (row := comparison.row(name)) is not None and row.best is not None]
    if len(rows) < 2:
        return ""
    positions: dict[str, list[float | None]] = {name: [] for name in comparison.names}
    for row in rows:
        values = [v.value for v in row.values if v is not None]
        low, high = min(values), max(values)
        for name, value in zip(comparison.names, row.values, strict=True):
            position = None if value is None else 0.5 if high == low else (value.value - low) / (high - low)
            positions[name].append(position if position is None or row.measure.better == "high" else 1 - position)
    drawn = parallel([row.title.split(" [")[0] for row in rows], positions)
    return figure(drawn, "Each measure from the worst of these runs (below) to the best (above), whatever lies between them.")


def _float(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1


def _reconstructions(columns: Sequence[Column]) -> str:
    """Return the same images, by every run that can, if they are of one source."""
    able = [c for c in columns if isinstance(c.cache.subject.model, Encodes) and c.record.has("errors")]
    parts = []
    for source in dict.fromkeys(c.cache.subject.data.held_out.fingerprint for c in able):
        mine = [c for c in able if c.cache.subject.data.held_out.fingerprint == source]
        originals = sprite(_float(mine[0].cache.reconstructions["originals"][:SHOWN]), SHOWN)
        rows = f"<span>original</span>{picture(originals, 'originals')}"
        for column in mine:
            again = sprite(_float(column.cache.reconstructions["images"][:SHOWN]), SHOWN)
            rows += f"<span>{escape(column.name)}</span>{picture(again, f'reconstructed by {column.name}')}"
        parts.append(
            figure(f'<div class="rows">{rows}</div>', f"The first {SHOWN} of {mine[0].cache.subject.data.split}, not picked.")
        )
    return section("The same images reconstructed", *parts)


def _samples(columns: Sequence[Column]) -> str:
    parts = [
        figure(picture(sprite(_float(c.cache.samples["images"][:DRAWN]), DRAWN // 2), "samples"), title=c.name)
        for c in columns
        if isinstance(c.cache.subject.model, Samples) and c.record.has("fid")
    ]
    notes = f"The first {DRAWN} of seed {columns[0].cache.subject.seed}, not picked."
    return section("Samples", f'<div class="figures">{"".join(parts)}</div>' if parts else "", notes=notes)
