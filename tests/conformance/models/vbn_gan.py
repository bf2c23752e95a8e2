"""A Wasserstein GAN whose generator has virtual batch normalisation, for reference batches and for optimizers of torch.

Salimans et al. 2016, "Improved Techniques for Training GANs", arXiv:1606.03498, section 3.4; Arjovsky et al. 2017,
arXiv:1701.07875, Algorithm 1 (RMSprop).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anamorph.catalog import ModelEntry
from anamorph.core.model import Labels, Noise, Samples
from anamorph.core.optimizer import TorchOptimizer
from anamorph.core.random import Random
from anamorph.core.recipe import LossOutput, Phase, Recipe
from anamorph.core.signal import Batch, Signal
from anamorph.core.space import Codes, Space
from anamorph.core.stage import Stage
from anamorph.losses.adversarial import AdversarialSettings, critic_loss, generator_loss
from anamorph.nn.mlp import MLP, leaky
from cases import Case


@dataclass(frozen=True)
class VBNGANConfig:
    z_dim: int = 4
    width: int = 10
    references: int = 6
    learning_rate: float = 0.0005


class _VirtualBatchNorm(nn.Module):
    """Normalise each example [B, C] by the statistics of the reference examples [R, C] and of itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        return self._norm(x, reference), self._norm(reference, reference)

    def _norm(self, x: Tensor, reference: Tensor) -> Tensor:
        share = 1 / (len(reference) + 1)
        mean = share * x + (1 - share) * reference.mean(0)
        square = share * x.square() + (1 - share) * reference.square().mean(0)
        return self.weight * (x - mean) / (square - mean.square() + 1e-5).clamp_min(1e-5).sqrt() + self.bias


class VBNGAN(Samples):
    reference: Tensor

    def __init__(self, signal: Signal, config: VBNGANConfig) -> None:
        super().__init__()
        self.signal, self.config, c = signal, config, config
        self.spaces = (Space("z", (c.z_dim,)),)
        self.register_buffer("reference", torch.zeros(c.references, c.z_dim))
        self.first, self.norm, self.last = (
            nn.Linear(c.z_dim, c.width, bias=False),  # the norm removes what a bias would add
            _VirtualBatchNorm(c.width),
            nn.Linear(c.width, signal.num_values),
        )
        self.critic = MLP([signal.num_values, c.width, 1], leaky(0.2))

    def initialise(self, batch: Batch, random: Random) -> None:
        """Choose the reference batch, once, before training."""
        self.reference.copy_(random.normal(*self.reference.shape))

    def sample_codes(self, n: int, random: Random, labels: Labels | None = None) -> Codes:
        return {"z": random.normal(n, self.config.z_dim)}

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        h, _ = self.norm(self.first(codes["z"]).float(), self.first(self.reference).float())
        return self.last(F.relu(h)).float().unflatten(1, self.signal.shape)

    def logits(self, x: Tensor) -> Tensor:
        return self.critic(x.flatten(1)).float().squeeze(1)


def recipe(model: VBNGAN) -> Recipe:
    settings, rate = AdversarialSettings("wasserstein", gradient_penalty=1.0), model.config.learning_rate

    def fake(batch: Batch, random: Random) -> Tensor:
        return model._decode(model.sample_codes(len(batch), random), "fixed")

    def critic(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        with torch.no_grad():
            generated = fake(batch, random)
        return critic_loss(model.logits, batch.signals, generated, settings, random)

    def generator(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        return LossOutput({"adversarial": generator_loss(model.logits(fake(batch, random)), "wasserstein")})

    def rmsprop(*modules: nn.Module) -> TorchOptimizer:
        parameters = [p for module in modules for p in module.parameters()]
        return TorchOptimizer(parameters, lambda own: torch.optim.RMSprop(own, lr=rate))

    g = (model.first, model.norm, model.last)
    return Recipe(
        phases=(
            Phase("critic", critic, (model.critic,), ("critic",), role="critic"),
            Phase("generator", generator, g, ("generator",), role="generator", interval=2),
        ),
        optimizers={"critic": rmsprop(model.critic), "generator": rmsprop(*g)},
        initialise=model.initialise,
    )


ENTRY = ModelEntry(name="vbn_gan", title="VBN-GAN", module=__name__, model="VBNGAN", paper="arXiv:1606.03498")
SMALL_CASES = {"vbn_gan-wasserstein": Case("vbn_gan", VBNGANConfig(), entry=ENTRY)}
