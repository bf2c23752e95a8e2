"""Likelihoods of MNIST: a VAE on black and white digits; and whether codes survive beside a decoder that can do without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anamorph.core.files import write_json
from anamorph.core.random import Seeded
from anamorph.data.dataset import Dataset
from anamorph.figures.bars import save_ranked
from anamorph.figures.grid import Row, save_picture, sheet
from anamorph.losses.log_prob import gaussian_kl
from anamorph.metrics.likelihood import importance_bounds
from anamorph.models.autoencoders.vae import ACTIVE, VAE, VAEConfig, binarised
from anamorph.models.quantized.vqvae import VQVAE, VQVAEConfig
from anamorph.nn.pixel_likelihood import LikelihoodConfig
from anamorph.run_data import open_data
from anamorph.runs import load, settings_of
from anamorph.training.autotune import ComputeRequest
from anamorph.training.folder import RunFolder
from experiments.tokens import Stage, hours_of, trained

__all__ = ["collapse", "vae_mnist"]

SOURCE = "mnist"
SHOWN, MEASURED, WEIGHTS = 8, 1000, 5000
BINARY = Stage("vae", VAEConfig(binarise=True, kl_warmup=300_000), 3_000_000, 128)
POWERFUL = LikelihoodConfig(condition_channels=16, width=24, layers=4)
COLLAPSE = {
    "vae": Stage("vae", VAEConfig(z_dim=32, widths=(512,), likelihood="pixelcnn", likelihood_config=POWERFUL), 120_000),
    "vqvae": Stage(
        "vqvae",
        VQVAEConfig(width=64, num_embeddings=64, embedding_dim=16, likelihood="pixelcnn", likelihood_config=POWERFUL),
        120_000,
    ),
}


def vae_mnist(
    out: Path,
    choice: ComputeRequest,
    say: Callable[[str], None],
    images: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train a VAE on MNIST, binarised anew at every step, and bound the likelihood of held-out digits, binarised once, by the
    ELBO and by 5,000 importance weights. Returns whether it came to its end, or was stopped."""
    folder = RunFolder(out / "vae")
    if not trained(SOURCE, replace(BINARY, images=images or BINARY.images), folder, choice, say, stop):
        return False
    model, held = load(folder.path), _held(folder)
    assert isinstance(model, VAE)
    x = binarised(held.take(0, MEASURED).signals, Seeded(0, "binarise"))
    facts: dict[str, Any] = {
        "hours of CPU": hours_of(folder.path),
        "images seen": folder.images_seen(),
        "held-out digits": MEASURED,
    }
    facts |= {name: round(value, 2) for name, value in importance_bounds(model, x, WEIGHTS, Seeded(0, "weights")).items()}
    mean, log_var = _posterior(model, x)
    facts["nats in z"] = round(float(gaussian_kl(mean, log_var).sum(1).mean()), 2)
    facts["active units"] = f"{int((mean.var(0) > ACTIVE).sum())} of {model.config.z_dim}"
    write_json(out / "results.json", facts)
    say("; ".join(f"{name} {value}" for name, value in facts.items()))
    return True


def collapse(
    out: Path,
    choice: ComputeRequest,
    say: Callable[[str], None],
    images: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train a VAE and a VQ-VAE whose decoder is a PixelCNN, and see what their codes still say: nats per dimension and active
    units, codes in use, and whether a reconstruction shows the digit it is one of. Writes results.json and pictures.

    Returns whether it came to its end, or was stopped.
    """
    for name, stage in COLLAPSE.items():
        wanted = replace(stage, images=images or stage.images)
        if not trained(SOURCE, wanted, RunFolder(out / name), choice, say, stop):
            return False
    held = _held(RunFolder(out / "vae"))
    x = held.take(0, MEASURED).signals
    vae, vqvae = load(out / "vae"), load(out / "vqvae")
    assert isinstance(vae, VAE)
    assert isinstance(vqvae, VQVAE)
    nats = gaussian_kl(*_posterior(vae, x)).mean(0)
    ids = vqvae.encode(x)["codes"]
    counts = torch.bincount(ids.flatten(), minlength=vqvae.config.num_embeddings).float()
    shares = counts / counts.sum()
    facts = {
        "hours of CPU": {name: hours_of(out / name) for name in COLLAPSE},
        "vae: nats in z": round(float(nats.sum()), 3),
        "vae: active units": int((_posterior(vae, x)[0].var(0) > ACTIVE).sum()),
        "vae: nats per pixel with its own z": _cost(vae, x, x),
        "vae: with another digit's z": _cost(vae, x, x.roll(1, 0)),
        "vqvae: codes in use": int((counts > 0).sum()),
        "vqvae: nats in a code, were they independent": round(float(torch.special.entr(shares).sum()), 3),
        "vqvae: nats per pixel with its own codes": _cost(vqvae, x, x),
        "vqvae: with another digit's codes": _cost(vqvae, x, x.roll(1, 0)),
    }
    write_json(out / "results.json", facts)
    panels = {
        "vae: nats in each dimension of z": nats.tolist(),
        "vqvae: how often an image has each code": (shares * ids[0].numel()).tolist(),
    }
    save_ranked(out / "usage.png", panels, "What codes say beside a PixelCNN decoder")
    with torch.no_grad():
        rows = [Row("held out", x[:SHOWN])]
        rows += [Row(name, model.decode(model.encode(x[:SHOWN]))) for name, model in (("vae", vae), ("vqvae", vqvae))]
    save_picture(out / "collapse.png", sheet(rows, f"Reconstructions by a PixelCNN decoder; the first {SHOWN}, unpicked"))
    say("; ".join(f"{name} {value}" for name, value in facts.items()))
    return True


def _held(folder: RunFolder) -> Dataset:
    return open_data(settings_of(folder), "test").shuffled()


@torch.no_grad()
def _posterior(model: VAE, x: Tensor) -> tuple[Tensor, Tensor]:
    return model.posterior(x)


@torch.no_grad()
def _cost(model: VAE | VQVAE, x: Tensor, encoded: Tensor) -> float:
    """Nats per pixel of images, given the codes of (these or other) ones."""
    parts = [model.decoder_log_likelihood(a, model.encode(b)) for a, b in zip(x.split(100), encoded.split(100), strict=True)]
    return round(-float(torch.cat(parts).mean()) / x[0].numel(), 4)
