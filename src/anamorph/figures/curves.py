"""Curves of logged values: raw, and smoothed over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anamorph.core.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["save_curves", "save_figure"]

Curve = tuple[Sequence[float], Sequence[float]]


def save_curves(path: Path, panels: Mapping[str, Mapping[str, Curve]]) -> None:
    """Write a picture with one panel per title, and in it each named curve (x, y) against images seen: PNG, or SVG by name."""
    from matplotlib.figure import Figure

    columns = min(3, max(1, len(panels)))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.4 * rows), dpi=100, layout="constrained")
    for place, (title, curves) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, columns, place)
        for number, (name, (x, y)) in enumerate(curves.items()):
            colour = f"C{number}"
            axes.plot(x, y, color=colour, alpha=0.25, linewidth=0.8)
            axes.plot(x, _smooth(np.asarray(y, float)), color=colour, linewidth=1.6, label=name)
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("images seen")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    save_figure(path, figure)


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG, or as SVG if the name ends so; the same bytes for the same figure."""
    import matplotlib

    kind = path.suffix.lower().removeprefix(".")
    with atomic_write(path) as temporary, matplotlib.rc_context({"svg.hashsalt": "anamorph"}):
        figure.savefig(temporary, format="svg" if kind == "svg" else "png", metadata={"Date": None} if kind == "svg" else None)


def _smooth(y: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the bias-corrected exponential moving average, with a span of a thirtieth of the curve."""
    decay = np.exp(-30 / max(len(y), 30))
    mean, weight = 0.0, 0.0
    out = np.empty_like(y)
    for i, value in enumerate(y):
        mean, weight = decay * mean + (1 - decay) * value, decay * weight + (1 - decay)
        out[i] = mean / weight
    return out
