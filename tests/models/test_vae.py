"""The variational autoencoder: its likelihoods, bounds and weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from anamorph.core.errors import UserError
from anamorph.core.random import Seeded
from anamorph.core.signal import Batch, Image
from anamorph.core.stage import Stage
from anamorph.losses.log_prob import iwae
from anamorph.models.autoencoders.vae import VAE, VAEConfig, binarised
from anamorph.models.autoencoders.vae import recipe as vae_recipe
from anamorph.nn.pixel_likelihood import LikelihoodConfig, SharedGaussian
from cases import PIXELCNN_LIKELIHOOD, Case

IMAGE = Image(2, 6, 4)
SMALL_CASES = {
    "vae": Case("vae", VAEConfig(z_dim=5, widths=(16, 12))),
    "vae-convolutional": Case(
        "vae",
        VAEConfig(
            z_dim=5,
            net="convolutional",
            stride=2,
            width=6,
            residual_blocks=1,
            residual_channels=4,
            likelihood="shared",
            beta=2.0,
            kl_warmup=20,
        ),
    ),
    "vae-free": Case(
        "vae", VAEConfig(z_dim=5, widths=(16,), likelihood="pixelcnn", likelihood_config=PIXELCNN_LIKELIHOOD, free_bits=0.05)
    ),
    "vae-iwae": Case("vae", VAEConfig(z_dim=5, widths=(16,), likelihood="gaussian", bound="iwae", importance_samples=3)),
}


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_a_sample_of_the_vae_has_the_decoders_mean(likelihood: str) -> None:
    model = VAE(IMAGE, VAEConfig(z_dim=3, widths=(8,), likelihood=likelihood))  # type: ignore[arg-type]
    codes = {"z": torch.randn(1, 3).expand(4000, 3)}
    with torch.no_grad():
        mean, samples = model.decode(codes)[0], model.decode(codes, Seeded(0, "x"))
    assert ((samples.mean(0) - mean).abs() < 5 * samples.std(0) / len(samples) ** 0.5 + 1e-2).all()
    if likelihood == "bernoulli":
        assert set(samples.unique().tolist()) == {-1.0, 1.0}


def test_more_importance_weights_tighten_the_bound() -> None:
    model = VAE(IMAGE, VAEConfig(z_dim=3, widths=(8,)))
    x = torch.rand(64, *IMAGE.shape) * 2 - 1
    with torch.no_grad():
        bounds = [float(iwae(model.importance_log_weights(x, k, Seeded(0, k))).mean()) for k in (1, 10, 100)]
    assert bounds[0] < bounds[1] < bounds[2]


def test_the_gaussian_variance_has_a_floor() -> None:
    model = VAE(
        IMAGE, VAEConfig(z_dim=3, widths=(8,), likelihood="gaussian", likelihood_config=LikelihoodConfig(log_var_floor=-6.0))
    )
    with torch.no_grad():
        model.decoder.get_parameter("layers.1.bias").fill_(-100.0)
        nats = model.decoder_log_likelihood(torch.full((1, *IMAGE.shape), -100.0), {"z": torch.zeros(1, 3)})
    torch.testing.assert_close(nats, torch.full_like(nats, IMAGE.num_values * -0.5 * (math.log(2 * math.pi) - 6.0)))


@pytest.mark.parametrize("likelihood", ["logistic", "pixelcnn", "shared"])
@torch.no_grad()
def test_samples_of_other_likelihoods_are_likelier_than_noise(likelihood: str) -> None:
    torch.manual_seed(0)
    model = VAE(Image(1, 6, 4), VAEConfig(z_dim=3, widths=(8,), likelihood=likelihood))  # type: ignore[arg-type]
    if isinstance(model.likelihood, SharedGaussian):
        model.likelihood.error.mean.fill_(0.01)
    codes = {"z": torch.randn(200, 3)}
    sampled = model.decode(codes, Seeded(0, "x"))
    noise = torch.randint(0, 256, sampled.shape) / 127.5 - 1
    assert float(model.decoder_log_likelihood(sampled, codes).mean()) > float(model.decoder_log_likelihood(noise, codes).mean())
    assert torch.equal(model.decode(codes), model.decode(codes))


def test_the_weight_of_the_kl_follows_the_settings() -> None:
    """beta multiplies it, a warm-up starts it at 0, and free bits are a lower bound."""
    x = Batch(torch.rand(8, *IMAGE.shape) * 2 - 1)

    def kl(steps: int = 0, **settings: Any) -> tuple[float, float]:
        torch.manual_seed(0)
        model = VAE(IMAGE, VAEConfig(z_dim=3, widths=(8,), **settings))
        (phase,) = vae_recipe(model).phases
        for _ in range(steps):
            phase.loss(x, Stage(0, 8), Seeded(0, "z"))
            for commit in phase.commit:
                commit()
        outcome = phase.loss(x, Stage(0, 8), Seeded(0, "z")).detached()
        return float(outcome.terms["kl"]), float(outcome.metrics["kl_unweighted"])

    plain, unweighted = kl()
    assert plain == pytest.approx(unweighted)
    assert kl(beta=3.0)[0] == pytest.approx(3 * plain)
    assert kl(kl_warmup=32)[0] == 0
    assert kl(1, kl_warmup=32)[0] == pytest.approx(plain / 4)
    assert kl(9, kl_warmup=32)[0] == pytest.approx(plain)
    assert kl(free_bits=10.0)[0] == pytest.approx(30)


def test_pixels_are_binarised_anew_at_every_step() -> None:
    grey = torch.linspace(-1, 1, 5).view(1, 1, 1, 5).expand(20_000, 1, 1, 5)
    sampled = binarised(grey, Seeded(0, "b"))
    assert set(sampled.unique().tolist()) == {-1.0, 1.0}
    torch.testing.assert_close(sampled.mean(0).flatten(), grey[0].flatten(), atol=0.03, rtol=0)
    assert not torch.equal(sampled, binarised(grey, Seeded(1, "b")))
    with pytest.raises(UserError, match="bernoulli"):
        VAEConfig(binarise=True, likelihood="logistic")
