"""How well a model undoes itself: in signals, |G(E(x)) - x|, and in codes, |E(G(w)) - w|; and how alike images look."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from anamorph.core.classes import encode_batch
from anamorph.core.errors import UserError
from anamorph.core.model import Draws, Encodes, LatentModel, require
from anamorph.core.random import Random
from anamorph.core.signal import Source

__all__ = ["latent_error", "psnr_db", "reconstruction_error", "ssim"]

BATCH = 256
WINDOW, SIGMA = 11, 1.5
"""Side and standard deviation, in pixels, of the window that structural similarity is found in."""
K1, K2, RANGE = 0.01, 0.03, 2.0
"""What keeps it finite where an image is dark or flat, relative to the range of values."""


@torch.no_grad()
def reconstruction_error(model: LatentModel, source: Source, n: int) -> dict[str, float]:
    """The error of n signals put through encoder and decoder: mean squared, in [-1, 1]; and as a signal-to-noise ratio."""
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
    """The mean over n drawn codes of |E(G(w)) - w|, the Euclidean distance, and the same relative to |w - mean(w)|."""
    encoder = require(model, Encodes, "a latent error")
    drawer = require(model, Draws, "a latent error")
    space = model.spaces[0].name
    codes = torch.cat([drawer.draw(min(BATCH, n - start), random)[space] for start in range(0, n, BATCH)])
    again = torch.cat([encoder.encode(drawer.decode({space: part}))[space] for part in codes.split(BATCH)])
    distance = (again - codes).flatten(1).norm(dim=1).mean()
    spread = (codes - codes.mean(0)).flatten(1).norm(dim=1).mean()
    return {"latent_error": float(distance), "latent_error_relative": float(distance / spread)}


def psnr_db(x: Tensor, y: Tensor) -> Tensor:
    """The signal-to-noise ratio [n] of images x against y [n, C, H, W] in [-1, 1], of the squared error in each: infinite for
    equal ones."""
    return 10 * (RANGE**2 / (x - y).double().square().flatten(1).mean(1)).log10()


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """The structural similarity [n] of images x to y [n, C, H, W] in [-1, 1]: 1 for equal ones; the mean over channels and the
    places at which the window fits.

    Wang, Bovik, Sheikh, Simoncelli 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity", equation
    13, as the authors' code has it. Libraries that fill in what lies beyond the edges give other numbers.
    Raises: UserError if the images are smaller than the window.
    """
    if x.shape != y.shape or min(x.shape[-2:]) < WINDOW:
        shapes = f"{list(x.shape)} and {list(y.shape)}"
        raise UserError(f"structural similarity is of images of one shape, at least {WINDOW}x{WINDOW}, got {shapes}")
    steps = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = (-(steps**2) / (2 * SIGMA**2)).exp()
    weights /= weights.sum()

    def blurred(z: Tensor) -> Tensor:
        planes = z.flatten(0, 1).unsqueeze(1)
        return conv2d(conv2d(planes, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1)).view(*z.shape[:2], -1)

    a, b = x.cpu().double(), y.cpu().double()
    mean_a, mean_b = blurred(a), blurred(b)
    over_a, over_b, both = (blurred(z) for z in (a * a, b * b, a * b))
    light = (K1 * RANGE) ** 2
    contrast = (K2 * RANGE) ** 2
    alike = (2 * mean_a * mean_b + light) * (2 * (both - mean_a * mean_b) + contrast)
    apart = (mean_a**2 + mean_b**2 + light) * (over_a - mean_a**2 + over_b - mean_b**2 + contrast)
    return (alike / apart).flatten(1).mean(1)
