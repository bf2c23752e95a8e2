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

__all__ = ["latex", "markdown", "write_comparison"]

MARKS = {"best": "**", "tie": "=", "first": "°", "": ""}
TOLD = (
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


def write_comparison(found: Comparison, columns: Sequence[Column], out: Path) -> list[Path]:
    """Write comparison.md, .tex, .json and .html into a folder; returns their paths."""
    texts = {"md": markdown(found), "tex": latex(found), "html": _page(found, columns)}
    for kind, text in texts.items():
        with atomic_write(out / f"comparison.{kind}") as temporary:
            temporary.write_text(text, encoding="utf-8")
    write_json(out / "comparison.json", _plain(found, columns))
    return [out / f"comparison.{kind}" for kind in ("html", "md", "tex", "json")]


def _plain(found: Comparison, columns: Sequence[Column]) -> dict[str, Any]:
    return {
        "runs": {column.name: column.record.entry["subject"] for column in columns},
        "rows": [
            {
                "group": row.group,
                "measure": row.name,
                "protocol": row.protocol,
                "better": row.measure.better,
                "data": row.data,
                "values": {n: None if v is None else asdict(v) for n, v in zip(found.names, row.values, strict=True)},
                "marks": {name: row.mark(i) for i, name in enumerate(found.names)},
                "difference_from_best_95": {found.names[i]: interval for i, interval in row.others.items()},
            }
            for row in found.rows
        ],
        "not_measured": {column.name: column.record.left() for column in columns},
    }


def _cell(row: Row, i: int) -> str:
    measure = row.values[i]
    return "" if measure is None else f"{number(measure.value, measure.error)}{error_of(measure)}"


def markdown(found: Comparison) -> str:
    """A table with a row for each measure, and below it how each was taken."""
    lines = ["| | " + " | ".join(found.names) + " | data |", "|---" * (len(found.names) + 2) + "|"]
    for row in found.rows:
        cells = []
        for i in range(len(found.names)):
            text, mark = _cell(row, i), row.mark(i)
            cells.append(f"**{text}**" if mark == "best" else f"{text} {MARKS[mark]}".strip() if text else "")
        data = "" if row.data is None else number(row.data)
        name = row.title.replace("|", r"\|")
        lines.append(f"| {name} {arrow(row.measure)} | {' | '.join(cells)} | {data} |")
    taken = "\n".join(f"* {row.title}: {_taken(row)}" for row in found.rows)
    return "\n".join([*lines, "", TOLD, "", "How each was taken:", "", taken, ""])


def latex(found: Comparison) -> str:
    """A tabular; the best is bold."""
    head = " & ".join(["", *map(_tex, found.names)])
    lines = [rf"\begin{{tabular}}{{l{'r' * len(found.names)}}}", r"\hline", rf"{head} \\", r"\hline"]
    group = ""
    for row in found.rows:
        if group not in ("", row.group):
            lines.append(r"\hline")
        group = row.group
        cells = []
        for i in range(len(found.names)):
            text, mark = _tex(_cell(row, i)).replace("±", r"$\pm$"), row.mark(i)
            cells.append(rf"\textbf{{{text}}}" if mark == "best" else text + (r"$^{=}$" if mark == "tie" else ""))
        way = {"↓": r" $\downarrow$", "↑": r" $\uparrow$", "": ""}[arrow(row.measure)]
        lines.append(rf"{_tex(row.title)}{way} & {' & '.join(cells)} \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}", ""])


def _tex(text: str) -> str:
    for sign in "\\&%$#_{}":
        text = text.replace(sign, rf"\{sign}" if sign != "\\" else r"\textbackslash ")
    return text.replace("|", r"\textbar ")


def _page(found: Comparison, columns: Sequence[Column]) -> str:
    about = [column.record.entry["subject"] for column in columns]
    runs = ", ".join(f"{c.name} ({a['model']}, {a['images']:,} images)" for c, a in zip(columns, about, strict=True))
    networks = sorted({network.name for column in columns for network in column.looks.subject.networks.all})
    told = f"{runs}. {', '.join(networks)} looks."
    heading = f"<h1>{' · '.join(map(escape, found.names))}</h1><p class='soft'>{escape(told)}</p>"
    body = heading + section("At a glance", _glance(found)) + section("Measures", _table(found), notes=TOLD)
    body += _reconstructions(columns) + _samples(columns)
    return page("comparison: " + ", ".join(found.names), body)


def _table(found: Comparison) -> str:
    rows, group = [], ""
    for row in found.rows:
        if row.group != group:
            group = row.group
            rows.append(f'<tr class="group"><th colspan="{len(found.names) + 2}">{escape(group)}</th></tr>')
        alone = sum(other.title == row.title for other in found.rows) == 1
        how = explanation(row.measure) + ("" if alone else f"; {_taken(row)}")
        cells = "".join(_html_cell(row, i) for i in range(len(found.names)))
        data = "" if row.data is None else number(row.data)
        name = f"{escape(row.title)} {arrow(row.measure)}<span class='under'>{escape(how)}</span>"
        rows.append(f"<tr><td>{name}</td>{cells}<td class='n'>{data}</td></tr>")
    lines = "".join(f"<li>{escape(row.title)}: {escape(_taken(row))}</li>" for row in found.rows)
    how = f"<details><summary>How each was taken</summary><ul class='soft'>{lines}</ul></details>"
    return table(["measure", *found.names, "data"], rows) + how


def _taken(row: Row) -> str:
    """How many of what it was taken over, and what else decides it."""
    return row.protocol.removeprefix(row.measure.label).lstrip("; ")


def _html_cell(row: Row, i: int) -> str:
    measure, mark = row.values[i], row.mark(i)
    if measure is None:
        return "<td></td>"
    error = f" <small>{error_of(measure)}</small>"
    told = f" title='difference from the best: {_interval(row.others[i])}'" if i in row.others else ""
    sign = f" {MARKS[mark]}" if mark in ("tie", "first") else ""
    return f"<td class='n {mark}'{told}>{number(measure.value, measure.error)}{sign}{error}</td>"


def _interval(interval: Interval | None) -> str:
    return "no interval" if interval is None else f"{interval[0]:.3g} to {interval[1]:.3g}"


def _glance(found: Comparison) -> str:
    """Every chosen measure from its worst value to its best."""
    rows = [row for name in AXES if (row := found.row(name)) is not None and row.best is not None]
    if len(rows) < 2:
        return ""
    places: dict[str, list[float | None]] = {name: [] for name in found.names}
    for row in rows:
        there = [v.value for v in row.values if v is not None]
        low, high = min(there), max(there)
        for name, value in zip(found.names, row.values, strict=True):
            place = None if value is None else 0.5 if high == low else (value.value - low) / (high - low)
            places[name].append(place if place is None or row.measure.better == "high" else 1 - place)
    drawn = parallel([row.title.split(" [")[0] for row in rows], places)
    return figure(drawn, "Each measure from the worst of these runs (below) to the best (above), whatever lies between them.")


def _float(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1


def _reconstructions(columns: Sequence[Column]) -> str:
    """The same images, by every run that can, if they are of one source."""
    able = [c for c in columns if isinstance(c.looks.subject.model, Encodes) and c.record.has("errors")]
    parts = []
    for source in dict.fromkeys(c.looks.subject.data.held_out.fingerprint for c in able):
        mine = [c for c in able if c.looks.subject.data.held_out.fingerprint == source]
        originals = sprite(_float(mine[0].looks.reconstructions["originals"][:SHOWN]), SHOWN)
        rows = f"<span>original</span>{picture(originals, 'originals')}"
        for column in mine:
            again = sprite(_float(column.looks.reconstructions["images"][:SHOWN]), SHOWN)
            rows += f"<span>{escape(column.name)}</span>{picture(again, f'reconstructed by {column.name}')}"
        parts.append(
            figure(f'<div class="rows">{rows}</div>', f"The first {SHOWN} of {mine[0].looks.subject.data.split}, not picked.")
        )
    return section("The same images reconstructed", *parts)


def _samples(columns: Sequence[Column]) -> str:
    parts = [
        figure(picture(sprite(_float(c.looks.samples["images"][:DRAWN]), DRAWN // 2), "samples"), title=c.name)
        for c in columns
        if isinstance(c.looks.subject.model, Samples) and c.record.has("fid")
    ]
    told = f"The first {DRAWN} of seed {columns[0].looks.subject.seed}, not picked."
    return section("Samples", f'<div class="figures">{"".join(parts)}</div>' if parts else "", notes=told)
