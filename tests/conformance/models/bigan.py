"""BiGAN in few lines, for the contracts of models whose critic reads pairs of images and codes.

Donahue, Krähenbühl, Darrell 2016, "Adversarial Feature Learning", arXiv:1605.09782, equation 2 and section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anamorph.catalog import ModelEntry
from anamorph.core.model import Encodes, Labels, Noise, Samples
from anamorph.core.optimizer import Adam
from anamorph.core.random import Random
from anamorph.core.recipe import LossOutput, Phase, Recipe
from anamorph.core.signal import Batch, Image
from anamorph.core.space import Codes, Space
from anamorph.core.stage import Stage
from anamorph.losses.adversarial import AdversarialSettings, critic_loss, generator_loss
from anamorph.nn.mlp import MLP, leaky
from cases import Case


@dataclass(frozen=True)
class BiGANConfig:
    z_dim: int = 5
    width: int = 12
    r1: float = 1.0
    learning_rate: float = 0.0002


class _PairCritic(nn.Module):
    """Logits [B] of images [B, C, H, W] and codes [B, D], which join the feature maps of the image."""

    def __init__(self, signal: Image, c: BiGANConfig) -> None:
        super().__init__()
        self.conv = nn.Conv2d(signal.channels, c.width, 3, padding=1)
        self.join = nn.Conv2d(c.width + c.z_dim, c.width, 3, stride=2, padding=1)
        self.last = nn.Linear(c.width * -(-signal.height // 2) * -(-signal.width // 2), 1)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        h = F.leaky_relu(self.conv(x), 0.2)
        h = torch.cat([h, z[:, :, None, None].expand(-1, -1, *h.shape[2:])], 1)
        logits: Tensor = self.last(F.leaky_relu(self.join(h), 0.2).flatten(1))
        return logits.float().squeeze(1)


class BiGAN(Encodes, Samples):
    signal: Image

    def __init__(self, signal: Image, config: BiGANConfig) -> None:
        super().__init__()
        self.signal, self.config, c = signal, config, config
        self.spaces = (Space("z", (c.z_dim,)),)
        self.generator = MLP([c.z_dim, c.width, signal.num_values], leaky(0.2))
        self.encoder = MLP([signal.num_values, c.width, c.z_dim], leaky(0.2))
        self.critic = _PairCritic(signal, c)

    def _encode(self, x: Tensor, labels: Labels) -> Codes:
        return {"z": self.encoder(x.flatten(1)).float()}

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        return self.generator(codes["z"]).float().unflatten(1, self.signal.shape)

    def sample_codes(self, n: int, random: Random, labels: Labels | None = None) -> Codes:
        return {"z": random.normal(n, self.config.z_dim)}


def recipe(model: BiGAN) -> Recipe:
    settings = AdversarialSettings("logistic", r1=model.config.r1)

    def pairs(batch: Batch, random: Random) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """(x, E(x)) and (G(z), z)."""
        x, z = batch.signals, model.sample_codes(len(batch), random)["z"]
        return (x, model._encode(x, {})["z"]), (model._decode({"z": z}, "fixed"), z)

    def critic(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        with torch.no_grad():
            real, fake = pairs(batch, random)
        return critic_loss(model.critic, real, fake, settings, random)

    def generator(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        real, fake = pairs(batch, random)
        loss = generator_loss(model.critic(*fake), "logistic") + generator_loss(-model.critic(*real), "logistic")
        return LossOutput({"adversarial": loss})

    g, e, rate = model.generator, model.encoder, model.config.learning_rate
    players = [*g.parameters(), *e.parameters()]
    return Recipe(
        phases=(
            Phase("critic", critic, (model.critic,), ("critic",), role="critic", chance_loss=settings.chance_loss),
            Phase("generator", generator, (g, e), ("generator",), role="generator"),
        ),
        optimizers={
            "critic": Adam(list(model.critic.parameters()), rate, (0.5, 0.999)),
            "generator": Adam(players, rate, (0.5, 0.999)),
        },
    )


ENTRY = ModelEntry(name="bigan", title="BiGAN", module=__name__, model="BiGAN", paper="arXiv:1605.09782")
SMALL_CASES = {"bigan": Case("bigan", BiGANConfig(), entry=ENTRY)}
