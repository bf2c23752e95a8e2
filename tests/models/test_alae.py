"""The adversarial latent autoencoder: its settings, its noise, and the gradients of its phases."""

from __future__ import annotations

import pytest
import torch

from anamorph.core.random import Seeded
from anamorph.core.signal import Batch, Image
from anamorph.core.stage import Stage
from anamorph.models.adversarial_autoencoders.alae import ALAE, ALAEConfig, recipe
from cases import Case

IMAGE = Image(2, 6, 4)
SMALL_CASES = {
    "alae": Case("alae", ALAEConfig(width=16, w_dim=5, z_dim=3, mapping_layers=2)),
    "alae-eta": Case("alae", ALAEConfig(width=16, w_dim=5, z_dim=3, eta_dim=2, resolution=5)),
    "alae-wasserstein": Case(
        "alae", ALAEConfig(width=16, w_dim=5, z_dim=3, adversarial_loss="wasserstein", pixel_range="signed")
    ),
}


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


@pytest.mark.parametrize("adversarial_loss", ["logistic", "wasserstein", "saturating"])
def test_the_objective_is_a_setting_of_alae(adversarial_loss: str) -> None:
    model = alae(adversarial_loss=adversarial_loss)
    critic, generator, _ = recipe(model).phases
    batch = Batch(torch.rand(8, *IMAGE.shape) * 2 - 1)
    terms = critic.loss(batch, Stage(0, 8), Seeded(0, "c")).terms
    assert set(terms) == {"adversarial", "slope" if adversarial_loss == "wasserstein" else "r1"}
    logits = model.critic_logits(model.generate(model.sample_codes(8, Seeded(0, "g"))))
    expected = {
        "logistic": torch.nn.functional.softplus(-logits).mean(),
        "saturating": -torch.nn.functional.softplus(logits).mean(),
        "wasserstein": -logits.mean(),
    }
    torch.testing.assert_close(generator.loss(batch, Stage(0, 8), Seeded(0, "g")).total(), expected[adversarial_loss])


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
    gradients = torch.autograd.grad(outcome.total(), list(model.mapping.parameters()), allow_unused=True)
    assert all(g is None or not g.any() for g in gradients)


def test_images_are_resized_to_the_networks_resolution() -> None:
    model = alae(resolution=8)
    x = torch.rand(2, *IMAGE.shape)
    assert model.encode(x)["w"].shape == (2, 5)
    assert model.decode({"w": torch.randn(2, 5)}).shape == (2, *IMAGE.shape)
    assert model.encoder.layers[0].in_features == 2 * 8 * 8
