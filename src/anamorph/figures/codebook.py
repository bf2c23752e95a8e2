"""Codebooks and encoder outputs, projected to the outputs' two principal components."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from anamorph.figures.curves import save_figure

__all__ = ["CodebookView", "save_codebooks"]

MOST = 4000
"""Largest number of encoder outputs that are drawn."""


@dataclass(frozen=True)
class CodebookView:
    """Outputs of an encoder [N, D], the vectors of a codebook [K, D], and how often each was chosen [K]."""

    outputs: Tensor
    vectors: Tensor
    counts: Tensor


def save_codebooks(path: Path, books: Mapping[str, CodebookView], title: str = "") -> None:
    """Write a picture (PNG, or SVG by name) with a panel for each codebook: outputs and codes along the two principal
    components of the outputs. Codes that are chosen more often are larger; unused codes are crosses."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(books) + 0.4, 4.6), dpi=100, layout="constrained")
    for place, (name, book) in enumerate(books.items(), 1):
        axes = figure.add_subplot(1, len(books), place)
        outputs, vectors, explained = _projected(book)
        low, high = _frame(outputs)
        chosen = book.counts > 0
        shares = book.counts[chosen] / book.counts.sum()
        axes.scatter(outputs[:, 0], outputs[:, 1], s=5, c="0.72", linewidths=0, label="encoder")
        sizes = (14 + 1200 * shares).tolist()
        axes.scatter(
            vectors[chosen][:, 0],
            vectors[chosen][:, 1],
            s=sizes,
            c="C0",
            edgecolors="white",
            linewidths=0.6,
            alpha=0.85,
            label="codes",
        )
        if not bool(chosen.all()):
            unused = vectors[~chosen].clamp(low, high)  # far ones stay visible, at the edge
            axes.scatter(unused[:, 0], unused[:, 1], s=26, c="C3", marker="x", linewidths=1.0, label="unused")
        axes.set_title(f"{name}: {int(chosen.sum())} of {len(chosen)} codes in use", fontsize=10)
        (left, bottom), (right, top) = low.tolist(), high.tolist()
        axes.set(xticks=[], yticks=[], xlim=(left, right), ylim=(bottom, top))
        axes.set_xlabel(f"{explained[0]:.0%} of the variance", fontsize=8)
        axes.set_ylabel(f"{explained[1]:.0%}", fontsize=8)
        axes.legend(fontsize=8, loc="upper right", framealpha=0.8)
    if title:
        figure.suptitle(title, fontsize=11)
    save_figure(path, figure)


def _projected(book: CodebookView) -> tuple[Tensor, Tensor, list[float]]:
    """Return the outputs [N, 2], the vectors [K, 2], and the shares of the outputs' variance along both axes."""
    outputs = book.outputs[:: max(1, len(book.outputs) // MOST)].double()
    mean = outputs.mean(0)
    _, stretch, axes = torch.linalg.svd(outputs - mean, full_matrices=False)
    plane = torch.zeros(2, len(mean), dtype=mean.dtype)
    plane[: len(axes)] = axes[:2]
    explained = torch.zeros(2, dtype=mean.dtype)
    explained[: len(axes)] = stretch[:2].square() / stretch.square().sum().clamp_min(1e-30)
    return (outputs - mean) @ plane.T, (book.vectors.double() - mean) @ plane.T, explained.tolist()


def _frame(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lower and upper limits [2] of the axes: nearly all points, and a margin."""
    low, high = points.quantile(0.003, dim=0), points.quantile(0.997, dim=0)
    room = 0.12 * (high - low).clamp_min(1e-6)
    return low - room, high + room
