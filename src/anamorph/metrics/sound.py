"""How far sounds are from each other as they are heard, rather than sample by sample, where a shift of phase is an error."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.labels import encode_batch
from anamorph.core.model import Encodes, LatentModel, require
from anamorph.core.signal import Audio, Source

__all__ = ["log_spectral_distance", "spectral_error"]

WINDOW_SECONDS = 0.032
FLOOR_DB = -80.0
BATCH = 64


def log_spectral_distance(a: Tensor, b: Tensor, sample_rate: int) -> Tensor:
    """Decibels [B] between sounds [B, C, T] in [-1, 1]: in each frame the root of the mean square, over the bins of the
    spectrum, of the difference of levels; the mean over frames and channels. A change of gain by g is |20 log10 g| dB.

    Frames are Hann windows of 32 ms, half of one apart; levels are no lower than 80 dB below a sine at full scale. Frames in
    which both sounds are below that everywhere count as nothing: silence put behind a sound does not change its distance.
    Gray and Markel 1976, "Distance measures for speech processing", IEEE TASSP 24(5), the d_2 of section II (rms log spectral
    measure), of FFT spectra.
    Raises: UserError if the sounds are not of one shape.
    """
    if a.shape != b.shape:
        raise UserError(f"wanted sounds of one shape, got {list(a.shape)} and {list(b.shape)}")
    one, other = _levels(a, sample_rate), _levels(b, sample_rate)
    heard = ((one > FLOOR_DB) | (other > FLOOR_DB)).any(2)  # [B, C, frames]
    distance = (one - other).square().mean(2).sqrt()
    return (distance * heard).flatten(1).sum(1) / heard.flatten(1).sum(1).clamp(min=1)


def _levels(x: Tensor, rate: int) -> Tensor:
    """Decibels [B, C, bins, frames], 0 for a sine at full scale."""
    width = max(16, 2 ** round(math.log2(WINDOW_SECONDS * rate)))
    window = torch.hann_window(width, device=x.device)
    flat = x.float().flatten(0, 1)
    spectrum = torch.stft(flat, width, width // 2, width, window, center=True, pad_mode="constant", return_complex=True)
    power = (spectrum.abs() / (window.sum() / 2)).square()
    return (10 * power.clamp(min=10 ** (FLOOR_DB / 10)).log10()).unflatten(0, x.shape[:2])


@torch.no_grad()
def spectral_error(model: LatentModel, source: Source, n: int) -> dict[str, float]:
    """Compute the mean log-spectral distance of n sounds from what encoder and decoder make of them.

    Raises: UserError if the model has no encoder, or is one of images.
    """
    encoder, signal = require(model, Encodes, "a spectral error"), model.signal
    if not isinstance(signal, Audio):
        raise UserError(f"a spectral error is for sounds, got a model of images of {signal}")
    device, total = next(model.parameters()).device, 0.0
    for start in range(0, n, BATCH):
        batch = source.take(start, min(BATCH, n - start)).to(device)
        again = encoder.decode(encode_batch(encoder, batch)).clamp(-1, 1)
        total += float(log_spectral_distance(batch.signals, again, signal.sample_rate).sum())
    return {"log_spectral_distance_db": total / n}
