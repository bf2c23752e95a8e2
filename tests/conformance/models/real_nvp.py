"""Real NVP in few lines, for the contracts of flows: an exact inverse, a density, weights that are set by the first batch.

Dinh, Sohl-Dickstein, Bengio 2016, arXiv:1605.08803, equations 7 and 8; activation normalisation as in Glow (Kingma and Dhariwal
2018, arXiv:1807.03039, section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anamorph.catalog import ModelEntry
from anamorph.core.model import HasInverse, HasLikelihood, Labels, LogLikelihood, Noise, Samples
from anamorph.core.optimizer import Adam
from anamorph.core.random import Random
from anamorph.core.recipe import LossOutput, Phase, Recipe
from anamorph.core.signal import Batch, Signal
from anamorph.core.space import Codes, Space
from anamorph.core.stage import Stage
from anamorph.losses.log_prob import gaussian_log_prob
from cases import Case


@dataclass(frozen=True)
class RealNVPConfig:
    layers: int = 4
    width: int = 16
    learning_rate: float = 0.001


class _Coupling(nn.Module):
    """Activation normalisation, then an affine coupling: half of the values scale and shift the others."""

    mask: Tensor

    def __init__(self, values: int, width: int, parity: int) -> None:
        super().__init__()
        self.register_buffer("mask", ((torch.arange(values) + parity) % 2).float(), persistent=False)
        self.bias, self.log_scale = nn.Parameter(torch.zeros(values)), nn.Parameter(torch.zeros(values))
        self.net = nn.Sequential(nn.Linear(values, width), nn.Tanh(), nn.Linear(width, 2 * values))

    def _scale_and_shift(self, x: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.net(x * self.mask).chunk(2, 1)
        return log_scale.tanh() * (1 - self.mask), shift * (1 - self.mask)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The next values, and the log-determinant [B]."""
        x = (x + self.bias) * self.log_scale.exp()
        log_scale, shift = self._scale_and_shift(x)
        return x * log_scale.exp() + shift, log_scale.sum(1) + self.log_scale.sum()

    def inverse(self, y: Tensor) -> Tensor:
        log_scale, shift = self._scale_and_shift(y)
        return (y - shift) * (-log_scale).exp() * (-self.log_scale).exp() - self.bias


class RealNVP(HasInverse, Samples, HasLikelihood):
    def __init__(self, signal: Signal, config: RealNVPConfig) -> None:
        super().__init__()
        self.signal, self.config, n = signal, config, signal.num_values
        self.spaces = (Space("z", (n,)),)
        self.layers = nn.ModuleList(_Coupling(n, config.width, i) for i in range(config.layers))

    def flow(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, total = x.flatten(1), torch.zeros(len(x), device=x.device)
        for layer in self.layers:
            z, log_determinant = layer(z)
            total = total + log_determinant
        return z, total

    def _encode(self, x: Tensor, labels: Labels) -> Codes:
        return {"z": self.flow(x)[0]}

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        x = codes["z"]
        for layer in reversed(self.layers):
            assert isinstance(layer, _Coupling)
            x = layer.inverse(x)
        return x.unflatten(1, self.signal.shape)

    def sample_codes(self, n: int, random: Random, labels: Labels | None = None) -> Codes:
        return {"z": random.normal(n, *self.spaces[0].shape)}

    def log_prob(self, x: Tensor, labels: Labels | None = None, random: Random | None = None) -> LogLikelihood:
        if random is not None:  # uniform dequantisation: a value stands for an interval of 2 / 255
            x = x + (random.uniform(*x.shape) - 0.5) * (2 / 255)
        z, log_determinant = self.flow(x.float())
        nats = gaussian_log_prob(z, torch.zeros_like(z), torch.zeros_like(z)) + log_determinant
        return LogLikelihood(nats, "exact", "density")

    @torch.no_grad()
    def initialise(self, batch: Batch, random: Random) -> None:
        """Every layer's values begin with mean zero and variance one."""
        x = batch.signals.flatten(1)
        for layer in self.layers:
            assert isinstance(layer, _Coupling)
            layer.bias.copy_(-x.mean(0))
            layer.log_scale.copy_(-(x.std(0) + 1e-3).log())
            x = layer(x)[0]


def recipe(model: RealNVP) -> Recipe:
    def likelihood(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        return LossOutput({"nats": -model.log_prob(batch.signals, batch.labels, random).nats.mean() / model.signal.num_values})

    phase = Phase("likelihood", likelihood, (model,), ("adam",))
    return Recipe((phase,), {"adam": Adam(list(model.parameters()), model.config.learning_rate)}, initialise=model.initialise)


ENTRY = ModelEntry(name="real_nvp", title="Real NVP", module=__name__, model="RealNVP", paper="arXiv:1605.08803")
SMALL_CASES = {"real_nvp": Case("real_nvp", RealNVPConfig(), entry=ENTRY)}
