"""A classifier of a run's folder, that tells of what class an image is; trained when it is first needed, and kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from anamorph.cli.options import note

if TYPE_CHECKING:
    from anamorph.data.images import Images
    from anamorph.metrics.factors import FactorClassifier

__all__ = ["LEARN", "factor_classifier"]

LEARN = 64_000
"""Images that it is trained on."""
HELD = 2000
"""Held-out images on which it is told how often it is right."""


def factor_classifier(run: Path, train: Images, held: Images, learn: int) -> FactorClassifier:
    """The classifier in a run's folder, if it was trained on so many of these images; or else a new one, which is kept."""
    from anamorph.metrics.factors import cached_factor_classifier

    wanted = f"{learn} images, {train.fingerprint}"
    found = cached_factor_classifier(run / "reader.safetensors", wanted, train, held, learn, HELD, note)
    assert found is not None  # nothing stops it
    return found[0]
