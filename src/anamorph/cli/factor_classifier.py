"""A classifier of a run's labels, trained when it is first needed and kept in the run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from anamorph.cli.options import note

if TYPE_CHECKING:
    from anamorph.data.images import Images
    from anamorph.metrics.factors import FactorClassifier

__all__ = ["CLASSIFIER_IMAGES", "factor_classifier"]

CLASSIFIER_IMAGES = 64_000
"""Images to train it on."""
HELD_OUT_IMAGES = 2000
"""Held-out images to measure its accuracy on."""


def factor_classifier(run: Path, train: Images, held_out: Images, images: int) -> FactorClassifier:
    """Return the classifier in a run's folder if it was trained on this number of these images, or else train it."""
    from anamorph.metrics.factors import cached_factor_classifier

    description = f"{images} images, {train.fingerprint}"
    trained = cached_factor_classifier(run / "reader.safetensors", description, train, held_out, images, HELD_OUT_IMAGES, note)
    assert trained is not None  # nothing stops it
    return trained[0]
