"""Rate and distortion: what images cost, and how well they are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anamorph.figures.curves import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Kept", "save_rates"]


@dataclass(frozen=True)
class Kept:
    """A way of keeping images: bits per pixel of whole files and without their headers, and how well they are kept."""

    bits: float
    bare_bits: float
    psnr_db: float
    ssim: float


def save_rates(path: Path, codecs: Mapping[str, Sequence[Kept]], models: Mapping[str, Kept], title: str = "") -> None:
    """Write a picture (PNG, or SVG by name) of quality against rate: curves of codecs over their settings, and models as
    points, each of whole files (full) and without headers (pale)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 4.4), dpi=100, layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, measure, label in zip(panels, ("psnr_db", "ssim"), ("PSNR, dB", "SSIM"), strict=True):
        for number, (name, curve) in enumerate(codecs.items()):
            values = [getattr(one, measure) for one in curve]
            axes.plot([one.bits for one in curve], values, color=f"C{number}", marker=".", label=f"{name}, whole files")
            bare = [one.bare_bits for one in curve]
            axes.plot(bare, values, color=f"C{number}", alpha=0.45, linestyle="--", label=f"{name}, without headers")
        for number, (name, one) in enumerate(models.items(), len(codecs)):
            _mark(axes, one, getattr(one, measure), f"C{number}", name)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("bits per pixel")
        axes.set_ylabel(label)
        axes.grid(alpha=0.25, which="both")
        axes.spines[["top", "right"]].set_visible(False)
    panels[1].legend(fontsize=8, frameon=False, loc="lower right")
    figure.suptitle(title, fontsize=11)
    save_figure(path, figure)


def _mark(axes: Axes, one: Kept, value: float, colour: str, name: str) -> None:
    """A point for whole files, a pale one without their headers, and what lies between."""
    axes.plot([one.bare_bits, one.bits], [value, value], color=colour, alpha=0.45, linestyle="--", linewidth=1)
    axes.plot([one.bare_bits], [value], color=colour, alpha=0.45, marker="D", linestyle="none")
    axes.plot([one.bits], [value], color=colour, marker="D", linestyle="none", label=f"{name} (pale: without headers)")
