"""The distance of sounds by their spectra: nothing for equal ones, a gain in decibels, and no dilution by silence."""

from __future__ import annotations

import math

import pytest
import torch

from anamorph.core.errors import UserError
from anamorph.core.signal import Audio
from anamorph.metrics.sound import log_spectral_distance, spectral_error
from anamorph.models.autoencoders.autoencoder import Autoencoder, AutoencoderConfig
from small import make_run
from sounds import source_of

RATE = 8000


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) - 0.5


def test_equal_sounds_are_at_no_distance_and_silence_is_a_sound() -> None:
    x = noise(3, 2, 4000)
    assert log_spectral_distance(x, x, RATE).tolist() == [0, 0, 0]
    assert log_spectral_distance(0 * x, 0 * x, RATE).tolist() == [0, 0, 0]


@pytest.mark.parametrize("gain", [0.5, 2.0, 0.1, -1.0])
def test_a_gain_is_its_decibels(gain: float) -> None:
    x = torch.zeros(2, 1, 4096)
    x[..., 64::256] = 0.9  # one pulse in each frame: the same level everywhere, above the floor
    wanted = abs(20 * math.log10(abs(gain)))
    assert log_spectral_distance(x, gain * x, RATE).tolist() == pytest.approx([wanted] * 2, abs=1e-3)


def test_it_is_symmetric_and_deaf_to_a_shift_of_phase_that_samples_are_not() -> None:
    x, y = noise(2, 1, 4000), noise(2, 1, 4000).flip(-1)
    torch.testing.assert_close(log_spectral_distance(x, y, RATE), log_spectral_distance(y, x, RATE))
    t = torch.arange(4096) * 2 * math.pi * 1000 / RATE
    sine, cosine = (0.5 * f(t)[None, None] for f in (torch.sin, torch.cos))
    assert (sine - cosine).square().mean() > (sine).square().mean()  # far apart by samples
    assert float(log_spectral_distance(sine, cosine, RATE)) < 0.2 * float(log_spectral_distance(sine, noise(1, 1, 4096), RATE))


def test_silence_behind_a_sound_changes_nothing() -> None:
    x, y = noise(1, 1, 4096), noise(1, 1, 4096).flip(-1)
    a, b = (torch.nn.functional.pad(v, (0, 20_000)) for v in (x, y))
    short, long = log_spectral_distance(x, y, RATE), log_spectral_distance(a, b, RATE)
    torch.testing.assert_close(short, long, rtol=0.03, atol=0)


def test_what_is_below_the_floor_is_not_heard() -> None:
    x = noise(1, 1, 4096)
    assert log_spectral_distance(1e-7 * x, 1e-9 * x, RATE).tolist() == [0]
    assert 40 < float(log_spectral_distance(x, 0 * x, RATE)) < 80


def test_shapes_must_agree() -> None:
    with pytest.raises(UserError, match=r"one shape, got \[1, 1, 10\] and \[1, 1, 11\]"):
        log_spectral_distance(torch.zeros(1, 1, 10), torch.zeros(1, 1, 11), RATE)


def test_the_error_of_a_model_is_the_mean_over_sounds() -> None:
    model = Autoencoder(Audio(1, 256, 2000), AutoencoderConfig(z_dim=4, width=8))
    source = source_of(70, 256, 2000).in_order()
    x = source.take(0, 70).signals
    with torch.no_grad():
        wanted = log_spectral_distance(x, model.decode(model.encode(x)).clamp(-1, 1), 2000).mean()
    assert spectral_error(model, source, 70)["log_spectral_distance_db"] == pytest.approx(float(wanted), rel=1e-5)
    with pytest.raises(UserError, match="is for sounds, got a model of images"):
        spectral_error(make_run("autoencoder").model, source, 4)
