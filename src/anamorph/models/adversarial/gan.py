"""The generative adversarial network with multi-layer perceptrons.

Goodfellow et al. 2014, "Generative Adversarial Nets", arXiv:1406.2661, Algorithm 1; with the penalties that made it
stable: R1 (Mescheder et al. 2018, arXiv:1801.04406) and the Wasserstein gradient penalty (Gulrajani et al. 2017,
arXiv:1704.00028).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from anamorph.core.config import check
from anamorph.core.model import Labels, Noise, Samples
from anamorph.core.precision import at_least_float32
from anamorph.core.random import Random
from anamorph.core.recipe import LossOutput, Phase, Recipe
from anamorph.core.signal import Batch, Signal
from anamorph.core.space import Codes, Space
from anamorph.core.stage import Stage
from anamorph.losses.adversarial import AdversarialLoss, AdversarialSettings, critic_loss, generator_loss
from anamorph.nn.equalized import lreq_adam
from anamorph.nn.mlp import MLP, leaky
from anamorph.nn.value_ranges import from_range, to_range

__all__ = ["GAN", "GANConfig", "recipe"]


@dataclass(frozen=True)
class GANConfig:
    """Sizes and losses. Networks and learning rates are those of `alae`, where the paper has maxout units and dropout."""

    z_dim: int = 50
    """Features of the latent code z."""
    width: int = 1024
    """Units in each of the two hidden layers of both networks."""
    generator_slope: float = 0.01
    """Slope of the leaky ReLU of the generator's hidden layers."""
    critic_slope: float = 0.2
    """Slope of the leaky ReLU of the critic's hidden layers."""
    adversarial_loss: AdversarialLoss = "logistic"
    """logistic (non-saturating), saturating, or wasserstein."""
    r1: float = 10.0
    """Gamma of the R1 penalty, gamma / 2 times the squared gradient on real examples (not wasserstein); 0: none."""
    gradient_penalty: float = 10.0
    """Lambda, the weight of the penalty that keeps gradients at norm 1 (wasserstein)."""
    learning_rate: float = 0.002
    """Learning rate before equalisation."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "z_dim", "width")
        check(self, "above 0", "learning_rate")
        check(self, "at least 0", "r1", "gradient_penalty")


class GAN(Samples):
    """Samples z [B, z_dim] ~ N(0, I), and decodes it to images [B, C, H, W] or sounds [B, C, T]; it has no encoder.

    Both networks see values in [0, 1].
    """

    def __init__(self, signal: Signal, config: GANConfig) -> None:
        super().__init__()
        self.signal, self.config = signal, config
        c = config
        self.spaces = (Space("z", (c.z_dim,)),)
        self.generator = MLP([c.z_dim, c.width, c.width, signal.num_values], leaky(c.generator_slope))  # G
        self.critic = MLP([signal.num_values, c.width, c.width, 1], leaky(c.critic_slope))  # D

    def sample_codes(self, n: int, random: Random, labels: Labels | None = None) -> Codes:
        return {"z": random.normal(n, self.config.z_dim)}

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        return from_range(self.generate(codes["z"]), "unit")

    def generate(self, z: Tensor) -> Tensor:
        """Generate signals [B, *signal.shape] in [0, 1]."""
        return at_least_float32(self.generator(z)).unflatten(1, self.signal.shape)

    def critic_logits(self, x: Tensor) -> Tensor:
        """Compute the critic's logits [B] of signals in [0, 1]."""
        return at_least_float32(self.critic(x.flatten(1))).squeeze(1)


def recipe(model: GAN) -> Recipe:
    """Algorithm 1 with k = 1: the critic ascends equation 1; the generator descends it, or the heuristic of section 3."""
    c = model.config
    settings = AdversarialSettings(c.adversarial_loss, r1=c.r1, gradient_penalty=c.gradient_penalty)

    def generate(batch: Batch, random: Random) -> Tensor:
        return model.generate(model.sample_codes(len(batch), random)["z"])

    def critic(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        real = to_range(batch.signals, "unit")
        with torch.no_grad():
            fake = generate(batch, random)
        return critic_loss(model.critic_logits, real, fake, settings, random)

    def generator(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        fake = generate(batch, random)
        return LossOutput({"adversarial": generator_loss(model.critic_logits(fake), c.adversarial_loss)})

    return Recipe(
        phases=(
            Phase(
                "critic",
                critic,
                trains=(model.critic,),
                optimizers=("critic",),
                role="critic",
                chance_loss=settings.chance_loss,
            ),
            Phase("generator", generator, trains=(model.generator,), optimizers=("generator",), role="generator"),
        ),
        optimizers={
            "critic": lreq_adam(c.learning_rate, model.critic),
            "generator": lreq_adam(c.learning_rate, model.generator),
        },
    )
