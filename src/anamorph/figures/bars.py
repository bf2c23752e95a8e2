"""Bars side by side: one group per thing, one bar per measure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from anamorph.figures.curves import save_figure

__all__ = ["save_bars"]


def save_bars(path: Path, groups: Mapping[str, Mapping[str, float]], title: str = "") -> None:
    """Write a picture (PNG, or SVG by name) with a group of bars for each name, and in it one for each measure."""
    from matplotlib.figure import Figure

    measures = list(next(iter(groups.values())))
    figure = Figure(figsize=(1.6 + 1.3 * len(groups), 3.6), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(measures)
    for i, measure in enumerate(measures):
        places = [j + (i - (len(measures) - 1) / 2) * width for j in range(len(groups))]
        axes.bar(places, [group[measure] for group in groups.values()], width * 0.92, label=measure, color=f"C{i}")
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_title(title, fontsize=11)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    save_figure(path, figure)
