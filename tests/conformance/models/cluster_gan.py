"""ClusterGAN in few lines, for the contracts of models with a real and a discrete latent together.

Mukherjee, Asnani, Lin, Kannan 2018, "ClusterGAN", arXiv:1809.03627, Algorithm 1: z = (z_n, z_c), a small Gaussian and a one-hot
class, both of which the encoder recovers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from anamorph.catalog import ModelEntry
from anamorph.core.model import Encodes, Labels, Noise, Samples
from anamorph.core.optimizer import Adam, lazy_adam_settings
from anamorph.core.random import Random
from anamorph.core.recipe import LossOutput, Phase, Recipe
from anamorph.core.signal import Batch, Signal
from anamorph.core.space import Codes, Space
from anamorph.core.stage import Stage
from anamorph.losses.adversarial import AdversarialSettings, critic_loss, generator_loss
from anamorph.models.closed_form.gaussian_mixture import GaussianConfig
from anamorph.nn.mlp import MLP, leaky
from cases import Case


@dataclass(frozen=True)
class ClusterGANConfig:
    z_dim: int = 4
    clusters: int = 3
    width: int = 12
    sigma: float = 0.1
    learning_rate: float = 0.0002


class ClusterGAN(Encodes, Samples):
    def __init__(self, signal: Signal, config: ClusterGANConfig) -> None:
        super().__init__()
        self.signal, self.config, c = signal, config, config
        self.spaces = (Space("z", (c.z_dim,)), Space("cluster", (), c.clusters))
        self.generator = MLP([c.z_dim + c.clusters, c.width, signal.num_values], leaky(0.2))
        self.encoder = MLP([signal.num_values, c.width, c.z_dim + c.clusters], leaky(0.2))
        self.critic = MLP([signal.num_values, c.width, 1], leaky(0.2))

    def infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z_n [B, z_dim] and the logits of the cluster [B, clusters]."""
        out = self.encoder(x.flatten(1)).float()
        return out[:, : self.config.z_dim], out[:, self.config.z_dim :]

    def _encode(self, x: Tensor, labels: Labels) -> Codes:
        z, logits = self.infer(x)
        return {"z": z, "cluster": logits.argmax(1)}

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        one_hot = F.one_hot(codes["cluster"], self.config.clusters).to(codes["z"].dtype)
        return self.generator(torch.cat([codes["z"], one_hot], 1)).float().unflatten(1, self.signal.shape)

    def sample_codes(self, n: int, random: Random, labels: Labels | None = None) -> Codes:
        c = self.config
        return {"z": c.sigma * random.normal(n, c.z_dim), "cluster": random.integers(0, c.clusters, (n,))}

    def logits(self, x: Tensor) -> Tensor:
        return self.critic(x.flatten(1)).float().squeeze(1)


def recipe(model: ClusterGAN) -> Recipe:
    settings, c = AdversarialSettings("logistic", r1=1.0), model.config

    def critic(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        with torch.no_grad():
            fake = model._decode(model.sample_codes(len(batch), random), "fixed")
        return critic_loss(model.logits, batch.signals, fake, settings, random)

    def generator(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        codes = model.sample_codes(len(batch), random)
        fake = model._decode(codes, "fixed")
        z, logits = model.infer(fake)
        return LossOutput(
            {
                "adversarial": generator_loss(model.logits(fake), "logistic"),
                "latent": (z - codes["z"]).square().mean(),
                "cluster": F.cross_entropy(logits, codes["cluster"]),
            }
        )

    players = (model.generator, model.encoder)
    rate, betas = lazy_adam_settings(c.learning_rate, (0.5, 0.9), interval=2)
    return Recipe(
        phases=(
            Phase("critic", critic, (model.critic,), ("critic",), role="critic", chance_loss=settings.chance_loss),
            Phase("generator", generator, players, ("generator",), role="generator"),
        ),
        optimizers={
            "critic": Adam(list(model.critic.parameters()), rate, betas),
            "generator": Adam([p for m in players for p in m.parameters()], rate, betas),
        },
    )


ENTRY = ModelEntry(name="cluster_gan", title="ClusterGAN", module=__name__, model="ClusterGAN", paper="arXiv:1809.03627")
SMALL_CASES = {
    "cluster_gan": Case("cluster_gan", ClusterGANConfig(), entry=ENTRY),
    "gaussian-clusters": Case("gaussian", GaussianConfig(), codes_of="cluster_gan", prior=True, random_loss=False),
}
