"""Likelihoods p(x | out) of images, given the output of a decoder."""

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
    """Settings of some likelihoods; each field says of which."""

    log_var_floor: float | None = -6.0
    """gaussian: lower bound of the log variance, approached smoothly; -6 is a standard deviation of 0.05 on pixels in [-1, 1].
    Without it (None, as in the paper), pixels that never change drive the density to infinity."""
    components: int = 5
    """logistic: components of the mixture."""
    condition_channels: int = 32
    """pixelcnn: channels of the decoder's output, on which the network is conditioned."""
    width: int = 30
    """pixelcnn: features of its stacks, a multiple of the image's channels."""
    layers: int = 5
    """pixelcnn: gated layers."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "components", "condition_channels", "width", "layers")


class PixelLikelihood(nn.Module, ABC):
    """A likelihood p(x | out) of images x [N, C, H, W] in [-1, 1], given a decoder's output [N, outputs, H, W].

    Args:
        outputs: channels of the decoder's output.
        quantity: probabilities of 8-bit (or binary) values, or a density of numbers in [-1, 1].
    """

    outputs: int
    quantity: Quantity = "probability"

    @abstractmethod
    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        """Compute log p(x | out) [N] in nats."""

    def gather(self, x: Tensor, out: Tensor) -> None:
        """Gather statistics of a training batch for the next commit; most likelihoods have none."""
        return

    def commit(self) -> None:
        """Apply what was gathered."""
        return

    @abstractmethod
    def sample(self, out: Tensor, noise: Noise) -> Tensor:
        """Return images [N, C, H, W]: the mean of the distribution or, given random numbers, a sample."""


def build_likelihood(kind: LikelihoodKind, image: Image, config: LikelihoodConfig) -> PixelLikelihood:
    """Build the likelihood of that name.

    Raises: UserError if it does not fit the image.
    """
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
    """Pixels are probabilities of white. Output: a logit per value."""

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
    """A normal distribution per value. Output: a mean and a log variance per value."""

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
    """Normal distributions that share one variance, the running mean of the squared error. Output: a mean per value.

    This variance maximises the likelihood (Rybkin et al. 2020, arXiv:2006.13202, section 3.2).
    """

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
        """Return the mean squared error, whose minimum is also that of the negative log-likelihood."""
        return (out.float() - x).square().mean()

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        with autocast_off(x):
            mean = out.float().flatten(1)
            return gaussian_log_prob(x.flatten(1), mean, self.error.mean.log().expand_as(mean))

    def sample(self, out: Tensor, noise: Noise) -> Tensor:
        mean = out.float()
        return mean + noise.normal(*mean.shape) * self.error.mean.sqrt() if isinstance(noise, Random) else mean


class _LogisticMixture(PixelLikelihood):
    """Mixtures of discretised logistics of 8-bit values. Output: see `losses.log_prob.logistic_mixture_log_prob`."""

    def __init__(self, image: Image, components: int) -> None:
        super().__init__()
        if image.channels not in (1, 3):
            raise UserError(
                f"the likelihood logistic is for images of 1 or 3 channels, got {image}: use another likelihood "
                "(--model.likelihood)"
            )
        self.channels, self.components = image.channels, components
        self.outputs = components * (10 if image.channels == 3 else 3)

    def log_prob(self, x: Tensor, out: Tensor) -> Tensor:
        with autocast_off(x):
            return logistic_mixture_log_prob(x, out.float()).flatten(1).sum(1)

    def sample(self, out: Tensor, noise: Noise) -> Tensor:
        out, m = out.float(), self.components
        n, _, h, w = out.shape
        if isinstance(noise, Random):
            component_uniforms = noise.uniform(n, h, w, m).clamp(1e-5, 1 - 1e-5)
            value_uniforms = noise.uniform(n, h, w, self.channels).clamp(1e-5, 1 - 1e-5)
            return logistic_mixture_sample(out, self.channels, component_uniforms, value_uniforms)
        weights = out[:, :m].softmax(1)
        blocks = out[:, m:].unflatten(1, (self.channels, -1, m))
        means = list(blocks[:, :, 0].clamp(-1, 1).unbind(1))
        if self.channels == 3:
            a, b, c = blocks[:, :, 2].tanh().unbind(1)
            means[1] = (means[1] + a * means[0]).clamp(-1, 1)
            means[2] = (means[2] + b * means[0] + c * means[1]).clamp(-1, 1)
        return torch.stack([(weights * mean).sum(1) for mean in means], 1)


class _PixelCNN(PixelLikelihood):
    """8-bit values, each given those before it: so powerful that it may ignore the codes. Output: its condition."""

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
        """Return a sample; without random numbers, the same fixed ones are used for all images."""
        n, (channels, height, width) = len(out), self.image.shape
        if isinstance(noise, Random):
            uniforms = noise.uniform(n, channels, height, width)
        else:
            uniforms = Seeded(0, "pixels", device=out.device).uniform(1, channels, height, width).expand(n, -1, -1, -1)
        return from_bytes(sample_ids(self.net.decoder(n, height, width, condition=out), uniforms, SamplingSettings()))
