"""Figures of rate and distortion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anamorph.figures.curves import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RatePoint", "save_rates"]


TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)


@dataclass(frozen=True)
class RatePoint:
    """One codec setting: bits per pixel of whole files and without headers, and the quality of the decoded images."""

    bits: float
    bare_bits: float
    psnr_db: float
    ssim: float


def save_rates(path: Path, codecs: Mapping[str, Sequence[RatePoint]], models: Mapping[str, RatePoint], title: str = "") -> None:
    """Write a picture (PNG, or SVG by name) of quality against rate: curves of codecs over their settings, and models as
    points, each of whole files (full) and without headers (pale)."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(10.4, 4.8), dpi=100, layout="constrained")
    panels = figure.subplots(1, 2)
    every = [*models.values(), *(one for curve in codecs.values() for one in curve)]
    rates = [rate for one in every for rate in (one.bits, one.bare_bits)]
    for axes, measure, label in zip(panels, ("psnr_db", "ssim"), ("PSNR, dB", "SSIM"), strict=True):
        for number, (name, curve) in enumerate(codecs.items()):
            values = [getattr(one, measure) for one in curve]
            axes.plot([one.bits for one in curve], values, color=f"C{number}", marker=".", label=f"{name}, whole files")
            bare = [one.bare_bits for one in curve]
            axes.plot(bare, values, color=f"C{number}", alpha=0.45, linestyle="--", label=f"{name}, without headers")
        for number, (name, one) in enumerate(models.items(), len(codecs)):
            _mark(axes, one, getattr(one, measure), f"C{number}", name)
        axes.set_xscale("log")
        axes.set_xticks(TICKS)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(min(rates) / 1.2, max(rates) * 1.2)
        axes.set_xlabel("bits per pixel")
        axes.set_ylabel(label)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, fontsize=8, frameon=False, loc="outside lower center", ncols=3)
    figure.suptitle(title, fontsize=11)
    save_figure(path, figure)


def _mark(axes: Axes, one: RatePoint, value: float, colour: str, name: str) -> None:
    """Draw a point for whole files, a pale one for files without headers, and a line between them."""
    axes.plot([one.bare_bits, one.bits], [value, value], color=colour, alpha=0.45, linestyle="--", linewidth=1)
    axes.plot([one.bare_bits], [value], color=colour, alpha=0.45, marker="D", linestyle="none")
    axes.plot([one.bits], [value], color=colour, marker="D", linestyle="none", label=name)
