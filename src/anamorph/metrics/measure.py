"""A number and all that must be known to compare it with another: never two that differ in it in one column untold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["STANDARD", "Better", "Measure"]

Better = Literal["low", "high", "neither"]

STANDARD: Mapping[str, str] = {
    "fid": "inception-v3-fid",
    "kid": "inception-v3-fid",
    "inception_score": "inception-v3-fid",
    "precision": "vgg16-fc2",
    "recall": "vgg16-fc2",
    "density": "vgg16-fc2",
    "coverage": "vgg16-fc2",
    "lpips": "lpips-vgg16",
    "ppl": "lpips-vgg16",
}
"""The feature network that a measure is published with, by the first part of its name."""


@dataclass(frozen=True)
class Measure:
    """One result. n: how many examples of each kind it was taken over, such as real and generated. features and resizer: the
    network that looked, and how images were brought to its size; empty if none did. split: which data. error: one standard
    error, where the measure has one. floor: about what a perfect model would have at these counts, where that is not zero.
    settings: what else decides it, such as k or epsilon."""

    name: str
    value: float
    unit: str
    better: Better
    n: Mapping[str, int]
    features: str = ""
    resizer: str = ""
    split: str = ""
    error: float | None = None
    floor: float | None = None
    settings: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name; with that of the feature network, unless it is the one that the measure is published with."""
        family = next((known for known in STANDARD if self.name == known or self.name.startswith(f"{known}_")), "")
        if not self.features or self.features == STANDARD.get(family):
            return self.name
        return f"{self.name}[{self.features}]"

    @property
    def protocol(self) -> str:
        """All but the value, in one line: two results may share a column if these are equal."""
        counts = ", ".join(f"{count:,} {what}" for what, count in self.n.items())
        parts = [self.label, counts, self.resizer, self.split, *(f"{k} {v}" for k, v in self.settings.items())]
        return "; ".join(part for part in parts if part)

    def __str__(self) -> str:
        error = "" if self.error is None else f" ± {self.error:.2g}"
        return f"{self.label} {self.value:.4g}{error}{' ' + self.unit if self.unit else ''}"
