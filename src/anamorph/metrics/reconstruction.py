"""How well a model undoes itself: in signals, |G(E(x)) - x|, and in codes, |E(G(w)) - w|."""

from __future__ import annotations

import torch

from anamorph.core.labels import encode_batch
from anamorph.core.model import Encodes, LatentModel, Samples, require
from anamorph.core.random import Random
from anamorph.core.signal import Source

__all__ = ["latent_error", "reconstruction_error"]

BATCH = 256


@torch.no_grad()
def reconstruction_error(model: LatentModel, source: Source, n: int) -> dict[str, float]:
    """Compute the error of n signals put through encoder and decoder: mean squared, in [-1, 1]; and as a signal-to-noise
    ratio.
    """
    encoder = require(model, Encodes, "a reconstruction error")
    device = next(model.parameters()).device
    squared = 0.0
    for start in range(0, n, BATCH):
        batch = source.take(start, min(BATCH, n - start)).to(device)
        x, again = batch.signals, encoder.decode(encode_batch(encoder, batch)).clamp(-1, 1)
        squared += float((again - x).square().flatten(1).mean(1).sum())
    mse = squared / n
    return {"reconstruction_mse": mse, "reconstruction_psnr_db": float(10 * torch.log10(torch.tensor(4 / mse)))}


@torch.no_grad()
def latent_error(model: LatentModel, n: int, random: Random) -> dict[str, float]:
    """Compute the mean over n drawn codes of |E(G(w)) - w|, the Euclidean distance, and the same relative to |w - mean(w)|."""
    encoder = require(model, Encodes, "a latent error")
    drawer = require(model, Samples, "a latent error")
    space = model.spaces[0].name
    codes = torch.cat([drawer.sample_codes(min(BATCH, n - start), random)[space] for start in range(0, n, BATCH)])
    again = torch.cat([encoder.encode(drawer.decode({space: part}))[space] for part in codes.split(BATCH)])
    distance = (again - codes).flatten(1).norm(dim=1).mean()
    spread = (codes - codes.mean(0)).flatten(1).norm(dim=1).mean()
    return {"latent_error": float(distance), "latent_error_relative": float(distance / spread)}
