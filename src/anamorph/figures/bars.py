"""Bars side by side: one group per name, one bar per measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from anamorph.figures.curves import save_figure

__all__ = ["save_bars", "save_ranked"]


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


def save_ranked(path: Path, panels: Mapping[str, Sequence[float]], title: str = "") -> None:
    """Write a picture (PNG, or SVG by name) with a panel for each name, in it a bar for each value, the largest first."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4 * len(panels), 3.2), dpi=100, layout="constrained")
    for place, (name, values) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), place)
        axes.bar(range(1, len(values) + 1), sorted(values, reverse=True), 0.86, color=f"C{place - 1}")
        axes.set_title(name, fontsize=10)
        axes.grid(axis="y", alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    save_figure(path, figure)
