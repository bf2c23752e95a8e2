"""Small cases of models and priors, which the conformance suite runs; each lives in the test file of its model.

A test file tests/models/test_NAME.py, or a test-only model in tests/conformance/models, has `SMALL_CASES`: cases by name.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from anamorph.catalog import ModelEntry
from anamorph.core.signal import Audio, Image, Signal
from anamorph.nn.pixel_likelihood import LikelihoodConfig
from anamorph.nn.wavenet_layers import WaveNetSizes

IMAGE = Image(2, 6, 4)
STYLED = Image(2, 8, 16)
"""For models of images whose sides are powers of two."""
STRIDED = Image(2, 16, 24)
"""For models with strides."""
SOUND = Audio(1, 40, 1000)
DILATED = WaveNetSizes(layers=3, dilation_cycle=2, residual_channels=6, gate_channels=5, skip_channels=7, head_channels=8)
PIXELCNN_LIKELIHOOD = LikelihoodConfig(condition_channels=3, width=4, layers=2)


@dataclass(frozen=True)
class Case:
    """A small model, or a prior over the codes of one.

    Args:
        model: its name in the catalog (or of its `entry`).
        config: its settings; of a prior, one for all spaces or a tuple.
        signal: what it is a model of.
        codes_of: of a prior, the case whose codes it is over; empty for pixels or samples themselves.
        prior: whether it is a prior.
        entry: of a test-only model, its entry in the catalog while the tests run.
        random_loss: whether the losses use random numbers.
        ties: whether rounding may decide between codes, so that two ways of computing may differ.
        shake: whether weights that begin at zero or one are perturbed, so that they hide no errors.
    """

    model: str
    config: Any
    signal: Signal = IMAGE
    codes_of: str = ""
    prior: bool = False
    entry: ModelEntry | None = None
    random_loss: bool = True
    ties: bool = False
    shake: bool = False


@cache
def small_cases() -> dict[str, Case]:
    """Every small case, by name."""
    root = Path(__file__).parent
    files = [*sorted((root / "models").glob("test_*.py")), *sorted((root / "conformance" / "models").glob("[a-z]*.py"))]
    cases: dict[str, Case] = {}
    for path in files:
        cases |= getattr(_module(path), "SMALL_CASES", {})
    return cases


def _module(path: Path) -> Any:
    name = f"cases_{path.parent.parent.name}_{path.stem}" if path.parent.parent.name == "conformance" else f"cases_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]
