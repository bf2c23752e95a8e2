"""The report of one run: the table, and what it cache like, in one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anamorph.catalog import model_entry
from anamorph.core.files import atomic_write
from anamorph.core.model import Encodes, Samples
from anamorph.evaluation.charts import bars, histogram, lines
from anamorph.evaluation.feature_cache import FeatureCache
from anamorph.evaluation.metric_names import GROUPS_IN_ORDER, arrow, error_of, explanation, number, title, value_of
from anamorph.evaluation.page import HOW, figure, page, picture, section, sprite, table
from anamorph.evaluation.record import Record
from anamorph.metrics.measure import Measure
from anamorph.training.folder import RunFolder

__all__ = ["losses", "plain_table", "write_report"]

WALL, ACROSS, SHOWN = 64, 16, 8
FIRST = (
    "fid",
    "recall",
    "reconstruction_mse",
    "reconstruction_ssim",
    "1nn_accuracy",
    "iwae_100_nats",
    "bits_per_value_bound",
    "perplexity",
    "mig",
)
"""The report begins with the first five of these measures that the run has."""


def write_report(record: Record, cache: FeatureCache) -> Path:
    """Write RUN/evaluation/report.html; returns its path."""
    subject = cache.subject
    facts = record.entry["subject"]
    seen = f"at {facts['images']:,} of {facts['of']:,} images ({facts['which']} checkpoint)"
    summary = (
        f"{model_entry(facts['model']).title}, {seen}; {facts['parameters']:,} parameters; compared with {subject.data.split}. "
        f"Feature networks: {_networks(cache)}. Seed {subject.seed}."
    )
    heading = f"<h1>{escape(subject.name)}</h1><p class='soft'>{escape(summary)}</p>"
    measures = list(record.measures())
    body = heading + _cards(measures) + section("Measures", _table(measures), _left(record), notes=NOTES)
    body += _samples(record, cache) + _reconstructions(cache) + _ways(cache) + _latent(record) + _losses(cache)
    body += f"<footer>anamorph · {escape(subject.settings.model)} · weights {subject.weights}</footer>"
    path = RunFolder(subject.path).report
    with atomic_write(path) as temporary:
        temporary.write_text(page(f"{subject.name}: evaluation", body), encoding="utf-8")
    return path


NOTES = (
    "± is one standard error over images. The column of the data says what training images have in place of samples: no model "
    "can be expected to do better. A name in brackets is the feature network's: such a number can only be compared with others "
    "by the same network."
)


def _networks(cache: FeatureCache) -> str:
    return ", ".join(f"{network.name} ({network.resizer})" for network in cache.subject.networks.all)


Rows = Iterable[tuple[str, Measure, float | None]]


def _cards(measures: Rows) -> str:
    by_name = {measure.name: measure for _, measure, _ in measures}
    chosen = [by_name[name] for name in FIRST if name in by_name][:5]
    cards = "".join(
        f'<div class="card"><b>{number(m.value, m.error)}</b><span>{escape(title(m))} {arrow(m)}</span></div>' for m in chosen
    )
    return f'<div class="cards">{cards}</div>' if cards else ""


def _table(measures: Rows) -> str:
    rows = []
    every = list(measures)
    for group in GROUPS_IN_ORDER:
        mine = [(m, data) for g, m, data in every if g == group]
        rows += [f'<tr class="group"><th colspan="3">{escape(group)}</th><th class="how"></th></tr>'] if mine else []
        for m, data in mine:
            protocol = m.protocol.removeprefix(m.label).lstrip("; ")
            how = f"<span class='phone'><br>{escape(protocol)}</span>"
            name = f"{escape(title(m))} {arrow(m)}<span class='under'>{escape(explanation(m))}{how}</span>"
            error = f" <small>{error_of(m)}</small>"
            unit = f" <small>{escape(m.unit)}</small>" if m.unit else ""
            rows.append(
                f"<tr><td>{name}</td><td class='n'>{number(m.value, m.error)}{error}{unit}</td>"
                f"<td class='n'>{'' if data is None else number(data)}</td><td class='how'>{escape(protocol)}</td></tr>"
            )
    return table(["measure", "value", "data", HOW], rows) if rows else ""


def _left(record: Record) -> str:
    """List what was not measured, and why."""
    lines = "".join(f"<li>{escape(name.replace('_', ' '))}: {escape(why)}</li>" for name, why in record.left().items())
    return f"<details><summary>Not measured, and why</summary><ul class='soft'>{lines}</ul></details>" if lines else ""


def _float(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1


def _samples(record: Record, cache: FeatureCache) -> str:
    subject = cache.subject
    if not isinstance(subject.model, Samples) or not record.has("fid"):
        return ""
    drawn = cache.samples["images"]
    wall = figure(
        picture(sprite(_float(drawn[:WALL]), ACROSS), "samples"),
        f"The first {min(WALL, len(drawn))} samples of seed {subject.seed}, not picked.",
    )
    return section("Samples", wall, _nearest(record, cache, drawn), f'<div class="figures">{_copies(record)}</div>')


def _nearest(record: Record, cache: FeatureCache, drawn: Tensor) -> str:
    """Draw the nearest training images of the first samples."""
    rows = [int(i) for i in record.curve("memorisation", "nearest")[:ACROSS]]
    if not rows:
        return ""
    train = cache.subject.data.train
    near = torch.cat([train.take(row, 1).signals for row in rows])
    pictures = f"<span>sample</span>{picture(sprite(_float(drawn[: len(rows)]), len(rows)), 'samples')}"
    pictures += f"<span>nearest</span>{picture(sprite(near, len(rows)), 'their nearest training images')}"
    caption = (
        f"The first samples, and of {cache.subject.n_train:,} training images the nearest as the feature network sees them."
    )
    return figure(f'<div class="rows">{pictures}</div>', caption)


def _copies(record: Record) -> str:
    series = {name: record.curve("memorisation", name) for name in ("samples", "held out")}
    if not all(series.values()):
        return ""
    caption = "Shares in percent. Samples that lie nearer than images which the model has never seen are copies, or blurred."
    return figure(histogram(series, "distance to the nearest training image"), caption, "Distance to training images")


def _reconstructions(cache: FeatureCache) -> str:
    """Return the best, the middle and the worst of those that were kept."""
    if not isinstance(cache.subject.model, Encodes):
        return ""
    entry = cache.reconstructions
    kept = len(entry["images"])
    order, count = entry["mse"][:kept].argsort(), min(SHOWN, kept // 3 or 1)
    middle = kept // 2 - count // 2
    parts = []
    for name, rows in (("best", order[:count]), ("middle", order[middle : middle + count]), ("worst", order[-count:])):
        pairs = "".join(
            f"<span>{what}</span>{picture(sprite(_float(entry[key][rows]), len(rows)), f'{name}: {what}')}"
            for what, key in (("original", "originals"), ("again", "images"))
        )
        errors = entry["mse"][rows]
        parts.append(
            figure(f'<div class="rows">{pairs}</div>', f"MSE {float(errors.min()):.3g} to {float(errors.max()):.3g}", name)
        )
    spread = figure(histogram({"": entry["mse"].tolist()}, "MSE of an image"), title="Errors")
    notes = f"By the error of their pixels, among {kept:,} held-out images."
    return section("Reconstructions", f'<div class="figures">{"".join([*parts, spread])}</div>', notes=notes)


def _ways(cache: FeatureCache) -> str:
    """Interpolations, as they were looked at."""
    ways = cache.saved("ways")
    if not ways:
        return ""
    images = ways["images"]
    strips = picture(sprite(_float(images.flatten(0, 1)), images.shape[1]), "interpolations")
    ends = "held-out images" if isinstance(cache.subject.model, Encodes) else "samples"
    return section(
        "Interpolations",
        figure(f'<div class="scroll">{strips}</div>', f"Lines between the codes of {ends}, the first {len(images)} pairs."),
    )


def _latent(record: Record) -> str:
    parts = []
    curves: Mapping[str, list[float]] = record.entry["steps"].get("path_length", {}).get("curves", {})
    if curves:
        series = {name.removeprefix("ppl_").split("_")[0]: values for name, values in curves.items()}
        parts.append(figure(histogram(series, "squared distance per squared step"), "Shares in percent.", "Path lengths"))
    for name, values in record.entry["steps"].get("usage", {}).get("curves", {}).items():
        space = name.removeprefix("usage").strip("_")
        parts.append(
            figure(bars(values, "codes, the commonest first"), title=f"How often codes are used{': ' + space if space else ''}")
        )
    units = record.curve("active_units", "variance of units")
    if units:
        parts.append(
            figure(bars(units, "numbers of the code, the largest first"), title="Variance of the code's numbers over images")
        )
    return section("Latent space", f'<div class="figures">{"".join(parts)}</div>') if parts else ""


def losses(records: list[dict[str, Any]]) -> dict[str, dict[str, tuple[list[float], list[float]]]]:
    """Return what was logged, as curves by phase."""
    found: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for name in dict.fromkeys(name for record in records for name in record if "/" in name):
        phase, term = name.split("/", 1)
        points = [(float(r["images"]), r[name]) for r in records if isinstance(r.get(name), float)]
        if len(points) > 1:
            found.setdefault(phase, {})[term] = ([x for x, _ in points], [y for _, y in points])
    return found


def _losses(cache: FeatureCache) -> str:
    panels = losses(RunFolder(cache.subject.path).metrics())
    drawn = "".join(figure(lines(curves, "images seen"), title=phase) for phase, curves in panels.items())
    return section("While it was trained", f'<div class="figures">{drawn}</div>') if drawn else ""


def plain_table(record: Record) -> str:
    """Format all measures as text, in columns."""
    rows = [(g, title(m), value_of(m), arrow(m), "" if data is None else number(data)) for g, m, data in record.measures()]
    if not rows:
        return "nothing could be measured"
    wide = [max(len(row[i]) for row in rows) for i in range(1, 5)]
    lines, last = [f"{'':{wide[0]}}  {'value':{wide[1]}}     data"], ""
    for group in GROUPS_IN_ORDER:
        for g, name, value, way, data in rows:
            if g == group:
                lines += [f"{group}"] if group != last else []
                last = group
                lines.append(f"{name:{wide[0]}}  {value:{wide[1]}}  {way:1}  {data}".rstrip())
    return "\n".join(lines)
