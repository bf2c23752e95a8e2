"""Small models and data for tests: sizes all different, images not square."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from anamorph.catalog import build
from anamorph.core.signal import Batch, Image, Label
from anamorph.core.stage import Constant
from anamorph.data.images import Images, InMemory
from anamorph.models.alae import ALAEConfig
from anamorph.models.autoencoder import AutoencoderConfig
from anamorph.models.gan import GANConfig
from anamorph.models.vae import VAEConfig
from anamorph.training.run import Machine, Run

IMAGE = Image(2, 6, 4)
BATCH = 8
CASES: dict[str, tuple[str, Any]] = {
    "alae": ("alae", ALAEConfig(width=16, w_dim=5, z_dim=3, mapping_layers=2)),
    "alae-eta": ("alae", ALAEConfig(width=16, w_dim=5, z_dim=3, eta_dim=2, inner=5)),
    "alae-wasserstein": ("alae", ALAEConfig(width=16, w_dim=5, z_dim=3, objective="wasserstein", pixel_range="signed")),
    "autoencoder": ("autoencoder", AutoencoderConfig(z_dim=5, width=16)),
    "gan": ("gan", GANConfig(z_dim=5, width=16)),
    "gan-saturating": ("gan", GANConfig(z_dim=5, width=16, objective="saturating", r1=0)),
    "gan-wasserstein": ("gan", GANConfig(z_dim=5, width=16, objective="wasserstein")),
    "vae": ("vae", VAEConfig(z_dim=5, widths=(16, 12))),
    "vae-iwae": ("vae", VAEConfig(z_dim=5, widths=(16,), likelihood="gaussian", objective="iwae", samples=3)),
}


def images(n: int = 40, seed: int = 0) -> Images:
    """A source of random images with two classes, brighter and darker."""
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, 2, n)
    pixels = generator.integers(0, 128, (n, *IMAGE.shape)) + 127 * classes[:, None, None, None]
    label = Label("class", ("dark", "bright"))
    return Images("random", InMemory(pixels.astype(np.uint8)), np.arange(n), (label,), {"class": classes})


def batch(n: int = BATCH) -> Batch:
    return images().take(0, n)


def make_run(case: str, machine: Machine | None = None, seed: int = 0) -> Run:
    name, config = CASES[case]
    model, recipe = build(name, IMAGE, config, seed)
    return Run(model, recipe, Constant(BATCH), seed, machine or Machine())


def state(run: Run) -> dict[str, torch.Tensor]:
    """A copy of all that a later step depends on."""
    return {name: value.clone() for name, value in run.tensors().items()}


def differing(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> list[str]:
    """The names of tensors that are not equal bit for bit."""
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]
