"""The generative adversarial network: its losses and penalties."""

from __future__ import annotations

import pytest
import torch

from anamorph.core.random import Seeded
from anamorph.core.signal import Batch, Image
from anamorph.core.stage import Stage
from anamorph.models.adversarial.gan import GAN, GANConfig
from anamorph.models.adversarial.gan import recipe as gan_recipe
from cases import Case

IMAGE = Image(2, 6, 4)
SMALL_CASES = {
    "gan": Case("gan", GANConfig(z_dim=5, width=16)),
    "gan-saturating": Case("gan", GANConfig(z_dim=5, width=16, adversarial_loss="saturating", r1=0)),
    "gan-wasserstein": Case("gan", GANConfig(z_dim=5, width=16, adversarial_loss="wasserstein")),
}


@pytest.mark.parametrize(
    ("adversarial_loss", "terms"), [("logistic", {"r1"}), ("saturating", {"r1"}), ("wasserstein", {"slope"})]
)
def test_the_objective_is_a_setting_of_gan(adversarial_loss: str, terms: set[str]) -> None:
    model = GAN(IMAGE, GANConfig(width=16, z_dim=3, adversarial_loss=adversarial_loss))  # type: ignore[arg-type]
    critic = gan_recipe(model).phases[0]
    outcome = critic.loss(Batch(torch.zeros(4, *IMAGE.shape)), Stage(0, 4), Seeded(0, "c"))
    assert set(outcome.terms) == {"adversarial", *terms}


def test_gan_without_r1_has_no_penalty() -> None:
    model = GAN(IMAGE, GANConfig(width=16, z_dim=3, r1=0))
    outcome = gan_recipe(model).phases[0].loss(Batch(torch.zeros(4, *IMAGE.shape)), Stage(0, 4), Seeded(0, "c"))
    assert set(outcome.terms) == {"adversarial"}
