"""Matrices of shares, side by side, as shades with their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from anamorph.figures.curves import save_figure

__all__ = ["save_matrices"]


def save_matrices(
    path: Path,
    panels: Mapping[str, Sequence[Sequence[float]]],
    names: Sequence[str],
    rows: str,
    columns: str,
    row_names: Sequence[str] | None = None,
) -> None:
    """Write a picture (PNG, or SVG by name) with one matrix of shares in [0, 1] per title.

    names: of the columns, and of the rows, unless those have their own. rows, columns: what they are.
    """
    from matplotlib.figure import Figure

    row_names = names if row_names is None else row_names
    size = ((0.62 * len(names) + 0.9) * len(panels) + 1.0, 0.62 * len(row_names) + 1.8)
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    for place, (title, values) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), place)
        axes.imshow(values, vmin=0, vmax=1, cmap="Blues")
        for i, line in enumerate(values):
            for j, value in enumerate(line):
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.6 else "black", fontsize=8)
        axes.set_title(title, fontsize=11)
        axes.set_xticks(range(len(names)), list(names), rotation=30, ha="right", fontsize=8)
        axes.set_yticks(range(len(row_names)), list(row_names) if place == 1 else [""] * len(row_names), fontsize=8)
        if place == 1:
            axes.set_ylabel(rows)
    figure.supxlabel(columns, fontsize=10)
    save_figure(path, figure)
