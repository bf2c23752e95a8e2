"""Laws of images given what a decoder puts out: what makes a reconstruction a likelihood."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

from anamorph.core.config import check
from anamorph.core.errors import UserError
from anamorph.core.model import Noise, Quantity
from anamorph.core.precision import autocast_off
from anamorph.core.prior import SamplingSettings
from anamorph.core.random import Random, Seeded
from anamorph.core.signal import Image
from anamorph.losses.log_prob import (
    bernoulli_log_prob,
    gaussian_log_prob,
    logistic_mixture_log_prob,
    logistic_mixture_sample,
)
from anamorph.nn.gated import GatedNet
from anamorph.nn.incremental import sample_ids
from anamorph.nn.running_stats import RunningMean
from anamorph.nn.value_ranges import from_bytes, from_range, to_bytes, to_range

__all__ = ["LikelihoodConfig", "LikelihoodKind", "PixelLikelihood", "SharedGaussian", "build_likelihood"]

LikelihoodKind = Literal["bernoulli", "gaussian", "shared", "logistic", "pixelcnn"]


@dataclass(frozen=True)
class LikelihoodConfig:
    """How a decoder's outputs are read where they are a mixture or are told to a net."""

    log_var_floor: float | None = -6.0
    """gaussian: the least log variance, approached smoothly: without it (None, as in the paper) pixels that never change
    drive the density to infinity. -6 is a standard deviation of 0.05 on pixels in [-1, 1]."""
    components: int = 5
    """logistic: components of the mixture."""
    condition_channels: int = 32
    """pixelcnn: channels that the net is told of the codes."""
    width: int = 30
    """pixelcnn: channels of its stacks, a multiple of the image's channels."""
    layers: int = 5
    """pixelcnn: gated layers."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "components", "condition_channels", "width", "layers")


class PixelLikelihood(nn.Module, ABC):
    """p(x | out) of images x [N, C, H, W] in [-1, 1], given what a decoder puts out [N, outputs, H, W].

    quantity: probabilities of 8-bit values (or of two), or a density of numbers in [-1, 1].
    """

    outputs: int
    quantity: Quantity = "probability"

    @abstractmethod
    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """[N] in nats."""

    def gather(self, x: Tensor, out: Tensor) -> None:
        """Take a training step's images into account at the next commit; most laws have nothing to learn from them."""
        return

    def commit(self) -> None:
        """Take up what was gathered."""
        return

    @abstractmethod
    def sample(self, out: Tensor, noise: Noise) -> Tensor:
        """Images [N, C, H, W]: the mean of the law, or, with random numbers, a sample of it."""


def build_likelihood(kind: LikelihoodKind, image: Image, config: LikelihoodConfig) -> PixelLikelihood:
    """The law of that name."""
    if kind == "bernoulli":
        return _Bernoulli(image)
    if kind == "gaussian":
        return _Gaussian(image, config.log_var_floor)
    if kind == "shared":
        return SharedGaussian(image)
    if kind == "logistic":
        return _LogisticMixture(image, config.components)
    return _PixelCNN(image, config)


class _Bernoulli(PixelLikelihood):
    """Pixels are probabilities of white. Out: a logit per value."""

    def __init__(self, image: Image) -> None:
        super().__init__()
        self.outputs = image.channels

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        with autocast_off(x):
            return bernoulli_log_prob(to_range(x, "unit").flatten(1), out.float().flatten(1))

    def sample(self, out: Tensor, noise: Noise) -> Tensor:
        probability = out.float().sigmoid()
        if isinstance(noise, Random):
            probability = (noise.uniform(*probability.shape) < probability).float()
        return from_range(probability, "unit")


class _Gaussian(PixelLikelihood):
    """Out: a mean and a log variance per value."""

    quantity = "density"

    def __init__(self, image: Image, floor: float | None) -> None:
        super().__init__()
        self.outputs, self.floor = 2 * image.channels, floor

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        with autocast_off(x):
            mean, log_var = self._split(out)
            return gaussian_log_prob(x.flatten(1), mean.flatten(1), log_var.flatten(1))

    def sample(self, out: Tensor, noise: Noise) -> Tensor:
        mean, log_var = self._split(out)
        return mean + noise.normal(*mean.shape) * (log_var / 2).exp() if isinstance(noise, Random) else mean

    def _split(self, out: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = out.float().chunk(2, 1)
        return mean, log_var if self.floor is None else self.floor + softplus(log_var - self.floor)


class SharedGaussian(PixelLikelihood):
    """Out: a mean per value; all share one variance, the running mean of the squared error, which is the likeliest
    (Rybkin et al. 2020, arXiv:2006.13202, section 3.2)."""

    quantity = "density"

    def __init__(self, image: Image) -> None:
        super().__init__()
        self.outputs = image.channels
        self.error = RunningMean(1, beta=0.99)
        self.error.mean.fill_(1.0)

    def gather(self, x: Tensor, out: Tensor) -> None:
        self.error.gather((out.detach().float() - x).square().flatten(1).mean(1, keepdim=True))

    def commit(self) -> None:
        self.error.commit()

    def squared_error(self, x: Tensor, out: Tensor) -> Tensor:
        """Its mean, which is as good as log_prob to descend."""
        return (out.float() - x).square().mean()

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        with autocast_off(x):
            mean = out.float().flatten(1)
            return gaussian_log_prob(x.flatten(1), mean, self.error.mean.log().expand_as(mean))

    def sample(self, out: Tensor, noise: Noise) -> Tensor:
        mean = out.float()
        return mean + noise.normal(*mean.shape) * self.error.mean.sqrt() if isinstance(noise, Random) else mean


class _LogisticMixture(PixelLikelihood):
    """8-bit values under a mixture of discretised logistics. Out: its logits (see `losses.likelihood`)."""

    def __init__(self, image: Image, components: int) -> None:
        super().__init__()
        if image.channels not in (1, 3):
            raise UserError(f"a mixture of logistics is for grey or RGB, got {image}: use another --model.likelihood")
        self.channels, self.components = image.channels, components
        self.outputs = components * (10 if image.channels == 3 else 3)

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        with autocast_off(x):
            return logistic_mixture_log_prob(x, out.float()).flatten(1).sum(1)

    def sample(self, out: Tensor, noise: Noise) -> Tensor:
        out, m = out.float(), self.components
        n, _, h, w = out.shape
        if isinstance(noise, Random):
            which = noise.uniform(n, h, w, m).clamp(1e-5, 1 - 1e-5)
            return logistic_mixture_sample(
                out, self.channels, which, noise.uniform(n, h, w, self.channels).clamp(1e-5, 1 - 1e-5)
            )
        weights = out[:, :m].softmax(1)
        blocks = out[:, m:].unflatten(1, (self.channels, -1, m))
        means = list(blocks[:, :, 0].clamp(-1, 1).unbind(1))
        if self.channels == 3:
            a, b, c = blocks[:, :, 2].tanh().unbind(1)
            means[1] = (means[1] + a * means[0]).clamp(-1, 1)
            means[2] = (means[2] + b * means[0] + c * means[1]).clamp(-1, 1)
        return torch.stack([(weights * mean).sum(1) for mean in means], 1)


class _PixelCNN(PixelLikelihood):
    """8-bit values, each given those before it: a decoder so powerful that it can do without codes. Out: what it is told."""

    def __init__(self, image: Image, config: LikelihoodConfig) -> None:
        super().__init__()
        self.image, self.outputs = image, config.condition_channels
        self.net = GatedNet(
            image.channels,
            256,
            width=config.width,
            layers=config.layers,
            first_kernel_size=7,
            kernel_size=3,
            head_channels=2 * config.width,
            condition_channels=config.condition_channels,
        )

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        ids = to_bytes(x)
        logits = self.net(ids, condition=out)
        with autocast_off(logits):
            nats = cross_entropy(logits.float().flatten(0, -2), ids.flatten(), reduction="none")
        return -nats.view(len(x), -1).sum(1)

    @torch.no_grad()
    def sample(self, out: Tensor, noise: Noise) -> Tensor:
        """A sample, always: where no random numbers are given, the same ones for all images."""
        n, (channels, height, width) = len(out), self.image.shape
        if isinstance(noise, Random):
            chances = noise.uniform(n, channels, height, width)
        else:
            chances = Seeded(0, "pixels", device=out.device).uniform(1, channels, height, width).expand(n, -1, -1, -1)
        return from_bytes(sample_ids(self.net.decoder(n, height, width, condition=out), chances, SamplingSettings()))
