"""A spectrally normalised conditional GAN in few lines, for the contracts of layers that keep buffers, and of labels.

Miyato et al. 2018, arXiv:1802.05957 (spectral normalisation); Miyato and Koyama 2018, arXiv:1802.05637, equation 4 (projection
discriminator). The generator has batch normalisation, so that its losses see a batch whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anamorph.catalog import ModelEntry
from anamorph.core.model import Labels, Noise, Samples
from anamorph.core.optimizer import Adam
from anamorph.core.random import Random
from anamorph.core.recipe import LossOutput, Phase, Recipe
from anamorph.core.signal import Batch, Image
from anamorph.core.space import Codes, Space
from anamorph.core.stage import Stage
from anamorph.losses.adversarial import AdversarialSettings, critic_loss, generator_loss
from anamorph.nn.batch_norm import BatchNorm, batch_norm_commits
from anamorph.nn.spectral_norm import SpectralConv2d, SpectralLinear, spectral_commits
from cases import Case


@dataclass(frozen=True)
class ProjectionGANConfig:
    z_dim: int = 4
    width: int = 10
    num_classes: int = 2
    label: str = "class"
    learning_rate: float = 0.0002


class _Generator(nn.Module):
    def __init__(self, signal: Image, c: ProjectionGANConfig) -> None:
        super().__init__()
        self.signal = signal
        self.embed = nn.Embedding(c.num_classes, c.width)
        self.first, self.norm = nn.Linear(c.z_dim, c.width), BatchNorm(c.width)
        self.last = nn.Linear(c.width, signal.num_values)

    def forward(self, z: Tensor, classes: Tensor) -> Tensor:
        h = self.norm(self.first(z)) + self.embed(classes)
        return self.last(F.relu(h)).float().unflatten(1, self.signal.shape)


class _Critic(nn.Module):
    def __init__(self, signal: Image, c: ProjectionGANConfig) -> None:
        super().__init__()
        self.conv = SpectralConv2d(signal.channels, c.width, 3)
        self.last, self.embed = SpectralLinear(c.width, 1), SpectralLinear(c.num_classes, c.width, bias=False)

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        h = F.leaky_relu(self.conv(x), 0.1).sum((2, 3))
        projected = (self.embed(classes) * h).sum(1)
        logits: Tensor = self.last(h).squeeze(1) + projected
        return logits.float()


class ProjectionGAN(Samples):
    signal: Image

    def __init__(self, signal: Image, config: ProjectionGANConfig) -> None:
        super().__init__()
        self.signal, self.config, c = signal, config, config
        self.spaces = (Space("z", (c.z_dim,)), Space(c.label, (), c.num_classes, role="label"))
        self.classes = {c.label: c.num_classes}
        self.generator, self.critic = _Generator(signal, c), _Critic(signal, c)

    def sample_codes(self, n: int, random: Random, labels: Labels | None = None) -> Codes:
        c = self.config
        z, drawn = random.normal(n, c.z_dim), random.integers(0, c.num_classes, (n,))
        return {"z": z, c.label: (labels or {}).get(c.label, drawn)}

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        images: Tensor = self.generator(codes["z"], codes[self.config.label])
        return images


def recipe(model: ProjectionGAN) -> Recipe:
    c, settings = model.config, AdversarialSettings("logistic")

    def fake(batch: Batch, random: Random) -> Tensor:
        return model._decode(model.sample_codes(len(batch), random, batch.labels), "fixed")

    def critic(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        classes = F.one_hot(batch.labels[c.label], c.num_classes).float()
        with torch.no_grad():
            generated = fake(batch, random)
        return critic_loss(model.critic, (batch.signals, classes), (generated, classes), settings, random)

    def generator(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        classes = F.one_hot(batch.labels[c.label], c.num_classes).float()
        return LossOutput({"adversarial": generator_loss(model.critic(fake(batch, random), classes), "logistic")})

    g, d, norms = model.generator, model.critic, batch_norm_commits(model)
    return Recipe(
        phases=(
            Phase("critic", critic, (d,), ("critic",), role="critic", commit=(*norms, *spectral_commits(d)), chance_loss=1.386),
            Phase("generator", generator, (g,), ("generator",), role="generator", commit=norms),
        ),
        optimizers={n: Adam(list(m.parameters()), c.learning_rate, (0.0, 0.9)) for n, m in (("critic", d), ("generator", g))},
        group_size=None,
    )


ENTRY = ModelEntry(name="projection_gan", title="SN-GAN", module=__name__, model="ProjectionGAN", paper="arXiv:1802.05637")
SMALL_CASES = {"projection_gan": Case("projection_gan", ProjectionGANConfig(), entry=ENTRY)}
