"""Charts as SVG, in the colours of the page that they stand in: histograms, lines, and measures side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

__all__ = ["HUES", "bars", "histogram", "lines", "parallel"]

HUES = 12
"""Colours that the page has, from c0 on."""

WIDE, HIGH = 560, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 14, 34
BINS = 48
POINTS = 240


def _frame(content: str, legend: str = "", high: int = HIGH, wide: int = WIDE) -> str:
    return f'<svg class="chart" viewBox="0 0 {wide} {high}" role="img">{content}</svg>{legend}'


def _legend(names: Sequence[str]) -> str:
    if len(names) < 2:
        return ""
    keys = "".join(f'<span><i class="k{i % HUES}"></i>{escape(name)}</span>' for i, name in enumerate(names))
    return f'<div class="legend">{keys}</div>'


def _ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers between two, about so many."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    step = 10 ** math.floor(math.log10(span / count))
    step *= next((f for f in (1, 2, 5, 10) if span / (step * f) <= count), 10)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _text(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if abs(value) >= 1e4 else f"{value:.4g}"


class _Axes:
    """Maps numbers to places of a drawing."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.low, self.high = x
        self.bottom, self.top = y
        self.span, self.rise = (self.high - self.low) or 1.0, (self.top - self.bottom) or 1.0

    def x(self, value: float) -> float:
        return round(LEFT + (value - self.low) / self.span * (WIDE - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        return round(HIGH - BOTTOM - (value - self.bottom) / self.rise * (HIGH - TOP - BOTTOM), 1)

    def grid(self, label: str) -> str:
        """Lines and numbers of both axes."""
        rows = "".join(
            f'<path class="grid" d="M{LEFT} {self.y(v)}H{WIDE - RIGHT}"/>'
            f'<text class="tick" x="{LEFT - 6}" y="{self.y(v) + 3.5}" text-anchor="end">{_text(v)}</text>'
            for v in _ticks(self.bottom, self.top)
        )
        columns = "".join(
            f'<text class="tick" x="{self.x(v)}" y="{HIGH - BOTTOM + 15}" text-anchor="middle">{_text(v)}</text>'
            for v in _ticks(self.low, self.high, 6)
        )
        name = f'<text class="tick" x="{(LEFT + WIDE - RIGHT) / 2}" y="{HIGH - 3}" text-anchor="middle">{escape(label)}</text>'
        return f"{rows}{columns}{name}"


def histogram(series: Mapping[str, Sequence[float]], label: str) -> str:
    """Return how often values come, of each series in percent; what lies beyond the 99.5th percentile of all is left out."""
    every = np.concatenate([np.asarray(values, float) for values in series.values()])
    low, high = float(every.min()), float(np.quantile(every, 0.995))
    if not high > low:
        high = low + 1.0
    edges = np.linspace(low, high, BINS + 1)
    shares = [np.histogram(np.asarray(v, float), edges)[0] / max(1, len(v)) * 100 for v in series.values()]
    axes = _Axes((low, high), (0.0, float(max(s.max() for s in shares)) or 1.0))
    drawn = "".join(_steps(axes, edges, share, i) for i, share in enumerate(shares))
    return _frame(axes.grid(label) + drawn, _legend(list(series)))


def _steps(axes: _Axes, edges: np.ndarray, shares: np.ndarray, colour: int) -> str:
    path = f"M{axes.x(float(edges[0]))} {axes.y(0)}"
    for left, right, share in zip(edges[:-1], edges[1:], shares, strict=True):
        path += f"L{axes.x(float(left))} {axes.y(float(share))}H{axes.x(float(right))}"
    return f'<path class="area c{colour % HUES}" d="{path}V{axes.y(0)}Z"/>'


def bars(values: Sequence[float], label: str) -> str:
    """Values as bars, the largest first; of more than fit, the mean of neighbours."""
    ordered = np.sort(np.asarray(values, float))[::-1]
    if len(ordered) > POINTS:
        ordered = np.array([part.mean() for part in np.array_split(ordered, POINTS)])
    axes = _Axes((0.0, float(len(values))), (0.0, float(ordered.max()) or 1.0))
    wide = (WIDE - LEFT - RIGHT) / len(ordered)
    drawn = "".join(
        f'<rect class="bar" x="{LEFT + i * wide:.1f}" y="{axes.y(float(v))}" width="{max(wide * 0.86, 0.6):.1f}" '
        f'height="{max(0.0, axes.y(0) - axes.y(float(v))):.1f}"/>'
        for i, v in enumerate(ordered)
    )
    return _frame(axes.grid(label) + drawn)


def lines(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], label: str) -> str:
    """Curves (x, y), each thinned to some points by their means."""
    thin = {name: _thinned(*curve) for name, curve in curves.items()}
    every = np.concatenate([y for _, y in thin.values()])
    low, high = np.quantile(every, 0.01), np.quantile(every, 0.99)
    room = 0.06 * (high - low) or 1.0
    axes = _Axes(
        (min(float(x[0]) for x, _ in thin.values()), max(float(x[-1]) for x, _ in thin.values())),
        (float(low - room), float(high + room)),
    )
    drawn = ""
    for i, (x, y) in enumerate(thin.values()):
        held = np.clip(y, axes.bottom, axes.top)
        points = " ".join(f"{axes.x(float(a))},{axes.y(float(b))}" for a, b in zip(x, held, strict=True))
        drawn += f'<polyline class="line c{i % HUES}" points="{points}"/>'
    return _frame(axes.grid(label) + drawn, _legend(list(curves)))


def _thinned(x: Sequence[float], y: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(x, float), np.asarray(y, float)
    keep = np.isfinite(b)
    a, b = a[keep], b[keep]
    if len(a) <= POINTS:
        return a, b
    parts = np.array_split(np.arange(len(a)), POINTS)
    return np.array([a[p].mean() for p in parts]), np.array([b[p].mean() for p in parts])


def parallel(axes: Sequence[str], models: Mapping[str, Sequence[float | None]]) -> str:
    """Models as lines over measures: each measure from its worst (0, below) to its best (1, above); None leaves a gap."""
    high, tilt = 330, 96
    step = (WIDE - 2 * LEFT) / max(1, len(axes) - 1)
    place = [LEFT + i * step for i in range(len(axes))]

    def y(value: float) -> float:
        return round(TOP + (1 - value) * (high - TOP - tilt - 10), 1)

    drawn = "".join(
        f'<path class="grid" d="M{x:.1f} {TOP}V{y(0)}"/>'
        f'<text class="tick" transform="translate({x + 3:.1f} {y(0) + 14}) rotate(-38)" text-anchor="end">{escape(name)}</text>'
        for x, name in zip(place, axes, strict=True)
    )
    drawn += f'<text class="tick" x="{LEFT - 8}" y="{TOP + 4}" text-anchor="end">best</text>'
    drawn += f'<text class="tick" x="{LEFT - 8}" y="{y(0) + 3}" text-anchor="end">worst</text>'
    for i, values in enumerate(models.values()):
        points = [(x, v) for x, v in zip(place, values, strict=True) if v is not None]
        path = " ".join(f"{x:.1f},{y(v)}" for x, v in points)
        drawn += f'<polyline class="line c{i % HUES}" points="{path}"/>'
        drawn += "".join(f'<circle class="dot c{i % HUES}" cx="{x:.1f}" cy="{y(v)}" r="3.4"/>' for x, v in points)
    return _frame(drawn, _legend(list(models)), high)
