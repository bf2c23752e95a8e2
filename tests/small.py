"""Runs of small cases, and data for them: sizes all different, images not square."""

from __future__ import annotations

from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import torch

from anamorph.catalog import MODELS, build, build_with_prior
from anamorph.core.model import Encodes, LatentModel
from anamorph.core.recipe import Recipe
from anamorph.core.signal import Audio, Batch, Image, Label, Signal, Source
from anamorph.core.space import Codes
from anamorph.core.stage import Constant
from anamorph.data.images import Images, InMemory
from anamorph.models.two_stage import identity_codec
from anamorph.training.run import ComputeSettings, Run
from cases import DILATED, SOUND, Case, small_cases

__all__ = [
    "BATCH",
    "CASES",
    "DILATED",
    "TEST_ONLY",
    "batch",
    "build_case",
    "codes_of",
    "differing",
    "image_of",
    "images",
    "make_run",
    "signal_of",
    "sounds",
    "source",
    "state",
]

BATCH = 8
CASES: dict[str, Case] = small_cases()
TEST_ONLY = {case.model: case.entry for case in CASES.values() if case.entry is not None}
"""Entries of the test-only models, which stand in the catalog while they are built, and in the conformance suite."""


def signal_of(case: str) -> Signal:
    return CASES[case].signal


def image_of(case: str) -> Image:
    signal = signal_of(case)
    assert isinstance(signal, Image)
    return signal


@dataclass(frozen=True)
class Sounds:
    """A source of random sounds with two classes, softer and louder."""

    samples: torch.Tensor
    classes: torch.Tensor
    signal: Audio = SOUND
    labels: tuple[Label, ...] = (Label("class", ("soft", "loud")),)
    fingerprint: str = "random"

    @property
    def size(self) -> int:
        return len(self.samples)

    def take(self, start: int, count: int, level: int = 0) -> Batch:
        rows = torch.arange(start, start + count) % self.size
        return Batch(self.samples[rows], {"class": self.classes[rows]})


def sounds(n: int = 40, seed: int = 0) -> Sounds:
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(2, (n,), generator=generator)
    samples = torch.rand(n, *SOUND.shape, generator=generator) * 2 - 1
    return Sounds(samples * (0.1 + 0.9 * classes)[:, None, None], classes)


def source(case: str) -> Source:
    """Of random images or sounds, for a case."""
    return sounds() if isinstance(signal_of(case), Audio) else images(case=case)


def codes_of(model: LatentModel, n: int) -> Codes:
    """Random codes of a model's spaces."""
    return {
        s.name: torch.randn(n, *s.shape) if s.num_codes is None else torch.randint(s.num_codes, (n, *s.shape))
        for s in model.spaces
    }


def images(n: int = 40, seed: int = 0, case: str = "alae") -> Images:
    """A source of random images with two classes, brighter and darker."""
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, 2, n)
    pixels = generator.integers(0, 128, (n, *image_of(case).shape)) + 127 * classes[:, None, None, None]
    label = Label("class", ("dark", "bright"))
    return Images("random", InMemory(pixels.astype(np.uint8)), np.arange(n), (label,), {"class": classes})


def batch(n: int = BATCH, case: str = "alae") -> Batch:
    return source(case).take(0, n)


def build_case(case: str, seed: int = 0) -> tuple[LatentModel, Recipe]:
    """A case's model and recipe; a prior's with an untrained first stage."""
    c = CASES[case]
    if not c.prior:
        with patch.dict(MODELS, TEST_ONLY):
            return build(c.model, c.signal, c.config, seed)
    first = build_case(c.codes_of, 0)[0] if c.codes_of else identity_codec(c.signal)
    assert isinstance(first, Encodes)
    return build_with_prior(c.model, first, c.config, seed)


def make_run(case: str, machine: ComputeSettings | None = None, seed: int = 0) -> Run:
    """A run of a case at its very beginning, on this processor."""
    model, recipe = build_case(case, seed)
    if CASES[case].shake:  # what begins at zero or one hides what is behind it
        generator = torch.Generator().manual_seed(seed)
        for key, parameter in model.named_parameters():
            # An all-positive constant leaves the first bias without a gradient: the norm removes what it adds.
            scale = 1.0 if key.endswith("constant") else 0.1
            parameter.data += scale * torch.randn(parameter.shape, generator=generator)
    run = Run(model, recipe, Constant(BATCH), seed, machine or ComputeSettings())
    run.initialise(source(case))
    return run


def state(run: Run) -> dict[str, torch.Tensor]:
    """A copy of all that a later step depends on."""
    return {name: value.clone() for name, value in run.tensors().items()}


def differing(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> list[str]:
    """The names of tensors that are not equal bit for bit."""
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]
