"""Spectra of sounds as ears have them: how loud each pitch is at each moment, on the mel scale and in decibels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["log_mel", "mel", "mel_filters"]

WINDOW_SECONDS = 0.032
FLOOR_DB = -100.0
"""What is no louder is taken for it."""
BANDS = 80


def mel(hertz: float) -> float:
    """Frequency on the mel scale, where equal steps sound equal (O'Shaughnessy 1987, Speech Communication, p. 150)."""
    return 2595 * math.log10(1 + hertz / 700)


def _hertz(mels: Tensor) -> Tensor:
    return 700 * (10 ** (mels / 2595) - 1)


def mel_filters(n_mels: int, bins: int, sample_rate: int) -> Tensor:
    """Triangles [bands, bins] over the bins 0 .. rate / 2 of a spectrum: each rises to one at its centre and falls to nothing
    at its neighbours' centres, which lie at equal steps on the mel scale (Davis and Mermelstein 1980, IEEE TASSP 28(4))."""
    edges = _hertz(torch.linspace(0, mel(sample_rate / 2), n_mels + 2, dtype=torch.float64))
    frequency = torch.linspace(0, sample_rate / 2, bins, dtype=torch.float64)
    low, centre, high = (edges[i : n_mels + i, None] for i in range(3))
    rising, falling = (frequency - low) / (centre - low), (high - frequency) / (high - centre)
    return torch.minimum(rising, falling).clamp(min=0).float()


def log_mel(x: Tensor, sample_rate: int, n_mels: int = BANDS, hop: int | None = None) -> Tensor:
    """Decibels [B, bands, frames] of sounds [B, C, T] in [-1, 1], of all channels together; about 0 for a sine at full scale.

    Frames are hop samples apart (by default a quarter of a window), centred, in Hann windows of 32 ms; the spectrum is
    interpolated fourfold (by zeros behind each window), so that the lowest bands, which are narrower than its resolution, are
    not empty.
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
