"""Log-mel spectrograms: the level of each frequency band at each moment, on the mel scale and in decibels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["log_mel", "mel", "mel_filters"]

WINDOW_SECONDS = 0.032
FLOOR_DB = -100.0
"""Lower levels are clamped to this."""
BANDS = 80


def mel(hertz: float) -> float:
    """Convert a frequency to the mel scale, of equal steps in pitch (O'Shaughnessy 1987, Speech Communication, p. 150)."""
    return 2595 * math.log10(1 + hertz / 700)


def _hertz(mels: Tensor) -> Tensor:
    return 700 * (10 ** (mels / 2595) - 1)


def mel_filters(n_mels: int, bins: int, sample_rate: int) -> Tensor:
    """Return triangular filters [n_mels, bins] over the frequencies 0 .. sample_rate / 2.

    Each rises to one at its centre and falls to zero at its neighbours' centres. Centres lie at equal steps on the mel scale
    (Davis and Mermelstein 1980, IEEE TASSP 28(4)).
    """
    edges = _hertz(torch.linspace(0, mel(sample_rate / 2), n_mels + 2, dtype=torch.float64))
    frequency = torch.linspace(0, sample_rate / 2, bins, dtype=torch.float64)
    low, centre, high = (edges[i : n_mels + i, None] for i in range(3))
    rising, falling = (frequency - low) / (centre - low), (high - frequency) / (high - centre)
    return torch.minimum(rising, falling).clamp(min=0).float()


def log_mel(x: Tensor, sample_rate: int, n_mels: int = BANDS, hop: int | None = None) -> Tensor:
    """Compute the log-mel spectrogram of sounds, of the mean of their channels.

    Hann windows of 32 ms are centred on each frame. The spectrum is interpolated fourfold by zero padding, so that the lowest
    bands, which are narrower than its resolution, are not empty.

    Args:
        x: sounds [B, C, T] in [-1, 1].
        sample_rate: in hertz.
        n_mels: number of bands.
        hop: samples from one frame to the next; None: a quarter of a window.

    Returns:
        Decibels [B, n_mels, frames]; about 0 for a sine at full scale.
    """
    width = max(16, 2 ** round(math.log2(WINDOW_SECONDS * sample_rate)))
    window = torch.hann_window(width, device=x.device)
    mono = x.float().mean(1)
    spectrum = torch.stft(
        mono, 4 * width, hop or width // 4, width, window, center=True, pad_mode="constant", return_complex=True
    )
    power = (spectrum.abs() / (window.sum() / 2)) ** 2
    filters = mel_filters(n_mels, power.shape[1], sample_rate).to(x.device)
    return 10 * (filters @ power).clamp(min=10 ** (FLOOR_DB / 10)).log10()
