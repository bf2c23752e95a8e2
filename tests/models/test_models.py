"""What is particular to a model; what all have in common is in conformance/."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from anamorph.core.errors import UserError
from anamorph.core.random import Seeded
from anamorph.core.signal import Batch, Image
from anamorph.core.space import check_codes
from anamorph.core.stage import Stage
from anamorph.losses.log_prob import iwae
from anamorph.models.adversarial.gan import GAN, GANConfig
from anamorph.models.adversarial.gan import recipe as gan_recipe
from anamorph.models.adversarial_autoencoders.alae import ALAE, ALAEConfig, recipe
from anamorph.models.autoencoders.vae import VAE, VAEConfig, binarised
from anamorph.models.autoencoders.vae import recipe as vae_recipe
from anamorph.models.quantized.vqvae import VQVAE, VQVAEConfig
from anamorph.nn.pixel_likelihood import LikelihoodConfig, SharedGaussian

IMAGE = Image(2, 6, 4)


def alae(**settings: object) -> ALAE:
    return ALAE(IMAGE, ALAEConfig(width=16, w_dim=5, z_dim=3, **settings))  # type: ignore[arg-type]


def test_eta_is_fixed_off_or_fresh() -> None:
    model = alae(eta_dim=2)
    codes = {"w": torch.randn(3, 5)}
    assert [space.name for space in model.spaces] == ["w", "eta"]
    assert torch.equal(model.decode(codes), model.decode(codes))
    off = model.decode(codes, "off")
    torch.testing.assert_close(off, model.decode({**codes, "eta": torch.zeros(3, 2)}))
    torch.testing.assert_close(model.decode(codes), model.decode({**codes, "eta": model.eta.expand(3, 2)}))
    fresh = model.decode(codes, Seeded(0, "a"))
    assert torch.equal(fresh, model.decode(codes, Seeded(0, "a")))
    assert not torch.allclose(fresh, model.decode(codes, Seeded(1, "a")))
    assert model.sample_codes(4, Seeded(0, "b")).keys() == {"w", "eta"}


@pytest.mark.parametrize("objective", ["logistic", "wasserstein", "saturating"])
def test_the_objective_is_a_setting_of_alae(objective: str) -> None:
    model = alae(adversarial_loss=objective)
    critic, generator, _ = recipe(model).phases
    batch = Batch(torch.rand(8, *IMAGE.shape) * 2 - 1)
    terms = critic.loss(batch, Stage(0, 8), Seeded(0, "c")).terms
    assert set(terms) == {"adversarial", "slope" if objective == "wasserstein" else "r1"}
    score = model.critic_logits(model.generate(model.sample_codes(8, Seeded(0, "g"))))
    wanted = {
        "logistic": torch.nn.functional.softplus(-score).mean(),
        "saturating": -torch.nn.functional.softplus(score).mean(),
        "wasserstein": -score.mean(),
    }
    torch.testing.assert_close(generator.loss(batch, Stage(0, 8), Seeded(0, "g")).total(), wanted[objective])


def test_the_penalty_of_alae_is_taken_in_its_own_range() -> None:
    """In [0, 1] the slope is twice that in [-1, 1], and its square four times."""
    model = alae()
    batch = Batch(torch.rand(8, *IMAGE.shape) * 2 - 1)
    inside = recipe(model).phases[0].loss(batch, Stage(0, 8), Seeded(0, "c")).terms["r1"]
    x = batch.signals.requires_grad_()
    (slope,) = torch.autograd.grad(model.critic_logits((x + 1) / 2).sum(), x)
    torch.testing.assert_close(inside, 4 * model.config.r1 / 2 * slope.square().flatten(1).sum(1).mean())


def test_reciprocity_moves_f_only_through_the_image() -> None:
    model = alae()
    phase = recipe(model).phases[2]
    outcome = phase.loss(Batch(torch.zeros(4, *IMAGE.shape)), Stage(0, 4), Seeded(0, "r"))
    w = model.sample_codes(4, Seeded(0, "r"))["w"]
    torch.testing.assert_close(outcome.total(), (model.embed(model.generate({"w": w})) - w).square().mean())
    for parameter in model.generator.parameters():
        parameter.data.zero_()  # then the image does not depend on w, and neither does the loss, but for its detached target
    outcome = phase.loss(Batch(torch.zeros(4, *IMAGE.shape)), Stage(0, 4), Seeded(0, "r"))
    found = torch.autograd.grad(outcome.total(), list(model.mapping.parameters()), allow_unused=True)
    assert all(g is None or not g.any() for g in found)


def test_images_of_another_size_are_resized_inside_when_asked() -> None:
    model = alae(resolution=8)
    x = torch.rand(2, *IMAGE.shape)
    assert model.encode(x)["w"].shape == (2, 5)
    assert model.decode({"w": torch.randn(2, 5)}).shape == (2, *IMAGE.shape)
    assert model.encoder.layers[0].in_features == 2 * 8 * 8


@pytest.mark.parametrize(("objective", "terms"), [("logistic", {"r1"}), ("saturating", {"r1"}), ("wasserstein", {"slope"})])
def test_the_objective_is_a_setting_of_gan(objective: str, terms: set[str]) -> None:
    model = GAN(IMAGE, GANConfig(width=16, z_dim=3, adversarial_loss=objective))  # type: ignore[arg-type]
    critic = gan_recipe(model).phases[0]
    outcome = critic.loss(Batch(torch.zeros(4, *IMAGE.shape)), Stage(0, 4), Seeded(0, "c"))
    assert set(outcome.terms) == {"adversarial", *terms}


def test_gan_without_r1_has_no_penalty() -> None:
    model = GAN(IMAGE, GANConfig(width=16, z_dim=3, r1=0))
    outcome = gan_recipe(model).phases[0].loss(Batch(torch.zeros(4, *IMAGE.shape)), Stage(0, 4), Seeded(0, "c"))
    assert set(outcome.terms) == {"adversarial"}


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
def test_other_laws_of_pixels_draw_what_they_score(likelihood: str) -> None:
    """Their own samples are likelier than noise; discrete ones are of 256 values."""
    torch.manual_seed(0)
    model = VAE(Image(1, 6, 4), VAEConfig(z_dim=3, widths=(8,), likelihood=likelihood))  # type: ignore[arg-type]
    if isinstance(model.likelihood, SharedGaussian):
        model.likelihood.error.mean.fill_(0.01)
    codes = {"z": torch.randn(200, 3)}
    drawn = model.decode(codes, Seeded(0, "x"))
    noise = torch.randint(0, 256, drawn.shape) / 127.5 - 1
    assert float(model.decoder_log_likelihood(drawn, codes).mean()) > float(model.decoder_log_likelihood(noise, codes).mean())
    assert torch.equal(model.decode(codes), model.decode(codes))


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (ALAEConfig, {"w_dim": 0}),
        (ALAEConfig, {"eta_dim": -1}),
        (ALAEConfig, {"resolution": 0}),
        (GANConfig, {"z_dim": 0}),
        (VAEConfig, {"widths": (4, 0)}),
        (VAEConfig, {"importance_samples": 0}),
    ],
)
def test_sizes_that_make_no_sense_are_refused(config: type, settings: dict[str, object]) -> None:
    with pytest.raises(UserError, match="at least"):
        config(**settings)


def test_the_kl_of_the_vae_is_weighed_as_asked() -> None:
    """beta multiplies it, warm-up lets it rise from nothing, free bits forgive what is below them."""
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


def test_pixels_are_drawn_black_or_white_anew_at_every_step() -> None:
    grey = torch.linspace(-1, 1, 5).view(1, 1, 1, 5).expand(20_000, 1, 1, 5)
    drawn = binarised(grey, Seeded(0, "b"))
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    torch.testing.assert_close(drawn.mean(0).flatten(), grey[0].flatten(), atol=0.03, rtol=0)
    assert not torch.equal(drawn, binarised(grey, Seeded(1, "b")))
    with pytest.raises(UserError, match="bernoulli"):
        VAEConfig(binarise=True, likelihood="logistic")


def test_a_model_with_codes_side_by_side_or_in_stages_or_of_scalars_returns_from_them() -> None:
    x = torch.rand(3, 1, 8, 16) * 2 - 1
    for settings in (
        {"codes_per_position": 3},
        {"quantizer": "residual", "codes_per_position": 3},
        {"quantizer": "scalar", "fsq_levels": (5, 4, 3)},
    ):
        model = VQVAE(
            Image(1, 8, 16), VQVAEConfig(width=6, residual_channels=4, num_embeddings=60, embedding_dim=4, **settings)
        )
        codes = model.encode(x)
        assert check_codes(codes, model.spaces) == 3
        assert model.spaces[0].shape == (settings.get("codes_per_position", 1), 2, 4)
        torch.testing.assert_close(
            model.decode(codes), model.likelihood.sample(model.reconstruct(model.quantize(x).vectors), "fixed")
        )
