"""The variational autoencoder, trained on the ELBO or the importance-weighted bound.

Kingma and Welling 2013, "Auto-Encoding Variational Bayes", arXiv:1312.6114, equation 10;
Burda, Grosse, Salakhutdinov 2015, "Importance Weighted Autoencoders", arXiv:1509.00519, equation 8;
Higgins et al. 2017, "beta-VAE" (beta); Kingma et al. 2016, arXiv:1606.04934, appendix C.8 (free bits);
Sonderby et al. 2016, arXiv:1602.02282, section 2.3 (warm-up).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from anamorph.core.config import check
from anamorph.core.errors import UserError
from anamorph.core.model import Encodes, HasDecoderLikelihood, HasImportanceWeights, Labels, Noise, Samples
from anamorph.core.optimizer import SPIKE_CLIP, Adam
from anamorph.core.random import Random
from anamorph.core.recipe import LossOutput, Phase, Recipe
from anamorph.core.signal import Batch, Image
from anamorph.core.space import Codes, Space
from anamorph.core.stage import Stage
from anamorph.losses.log_prob import gaussian_kl, gaussian_log_prob, iwae
from anamorph.nn.convolutional import ConvDecoder, ConvEncoder, check_stride
from anamorph.nn.mlp import MLP, Activation, leaky
from anamorph.nn.pixel_likelihood import LikelihoodConfig, LikelihoodKind, build_likelihood
from anamorph.nn.running_stats import WarmUp
from anamorph.nn.value_ranges import to_range

__all__ = ["VAE", "VAEConfig", "binarised", "recipe"]

ACTIVE = 0.01
"""A latent unit is active if the variance of its posterior mean over the data exceeds this (Burda et al., section 5.2)."""


@dataclass(frozen=True)
class VAEConfig:
    """Sizes, decoder and objective."""

    z_dim: int = 50
    """Features of the latent code z."""
    net: Literal["dense", "convolutional"] = "dense"
    """dense: hidden layers of `widths`. convolutional: strided convolutions and residual blocks of `width` channels."""
    widths: tuple[int, ...] = (1024, 1024)
    """dense: units of the encoder's hidden layers; the decoder's are the same, reversed."""
    activation: Literal["leaky_relu", "tanh"] = "leaky_relu"
    """dense: activation of the hidden layers; the paper's is tanh, which trains worse in deep networks."""
    stride: int = 4
    """convolutional: pixels per position of the feature grid, along each side; a power of two."""
    width: int = 64
    """convolutional: channels of the features."""
    residual_blocks: int = 2
    """convolutional: residual blocks in encoder and decoder."""
    residual_channels: int = 32
    """convolutional: channels inside a residual block."""
    likelihood: LikelihoodKind = "bernoulli"
    """p(x | z). bernoulli: pixels are probabilities of white. gaussian: a mean and a variance per pixel. shared: a mean per
    pixel, and one variance. logistic: mixtures of logistics of 8-bit values. pixelcnn: each pixel also given those before."""
    likelihood_config: LikelihoodConfig = LikelihoodConfig()
    binarise: bool = False
    """bernoulli: sample each pixel black or white at every step, with its grey level as the probability of white (Salakhutdinov
    and Murray 2008); published likelihoods of MNIST are of such images."""
    bound: Literal["elbo", "iwae"] = "elbo"
    """elbo: with the closed-form KL. iwae: the bound of `importance_samples` importance weights."""
    importance_samples: int = 1
    """Samples of q(z | x) per image and step."""
    beta: float = 1.0
    """Weight of the KL (elbo); above 1, fewer and more independent dimensions are used."""
    free_bits: float = 0.0
    """Nats of KL per dimension below which the KL is not minimised (elbo)."""
    kl_warmup: int = 0
    """Images over which the weight of the KL rises from 0 (elbo)."""
    learning_rate: float = 0.0005
    """Adam's learning rate."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "z_dim", "importance_samples", "widths", "residual_blocks", "residual_channels", "width")
        check(self, "above 0", "learning_rate")
        check(self, "at least 0", "beta", "free_bits", "kl_warmup")
        if self.binarise and self.likelihood != "bernoulli":
            raise UserError(f"binarise needs the likelihood bernoulli, got {self.likelihood}")


class VAE(Encodes, Samples, HasImportanceWeights, HasDecoderLikelihood):
    """Maps images [B, C, H, W] in [-1, 1] to the mean of q(z | x) [B, z_dim] and back; samples z ~ N(0, I)."""

    signal: Image

    def __init__(self, signal: Image, config: VAEConfig) -> None:
        super().__init__()
        self.signal, self.config = signal, config
        c = config
        self.spaces = (Space("z", (c.z_dim,)),)
        self.likelihood = build_likelihood(c.likelihood, signal, c.likelihood_config)
        self.quantity = self.likelihood.quantity
        if c.net == "convolutional":
            check_stride(signal.height, signal.width, c.stride)
            self.encoder: nn.Module = _ConvPosterior(signal, c)
            self.decoder: nn.Module = _ConvLikelihood(signal, c, self.likelihood.outputs)
        else:
            activation: Activation = torch.tanh if c.activation == "tanh" else leaky(0.2)
            self.encoder = MLP([signal.num_values, *c.widths, 2 * c.z_dim], activation)
            self.decoder = MLP(
                [c.z_dim, *reversed(c.widths), self.likelihood.outputs * signal.height * signal.width], activation
            )

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of q(z | x), each [B, z_dim]."""
        mean, log_var = self.encoder(self._encoder_input(x)).float().chunk(2, 1)
        return mean, log_var

    def _encode(self, x: Tensor, labels: Labels) -> Codes:
        return {"z": self.posterior(x)[0]}

    def features(self, x: Tensor) -> Tensor:
        """Return the encoder's last hidden activation [B, F] of images in [-1, 1]."""
        hidden: Tensor = self.encoder.hidden(self._encoder_input(x))  # type: ignore[operator]
        return hidden.float()

    def sample_codes(self, n: int, random: Random, labels: Labels | None = None) -> Codes:
        return {"z": random.normal(n, self.config.z_dim)}

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        """Return images [B, C, H, W]: the mean of p(x | z), or a sample from it."""
        return self.likelihood.sample(self._decoder_output(codes["z"]), noise)

    def decoder_log_likelihood(self, x: Tensor, codes: Codes) -> Tensor:
        return self.likelihood.log_prob(x, self._decoder_output(codes["z"]))

    def likelihood_input(self, x: Tensor, random: Random) -> Tensor:
        """Return images as they are or, for a model of black and white images, binarised."""
        return binarised(x, random) if self.config.binarise else x

    def closed_form_kl(self, x: Tensor, labels: Labels | None = None) -> Tensor | None:
        return gaussian_kl(*self.posterior(x)).sum(1)

    def importance_log_weights(self, x: Tensor, k: int, random: Random, labels: Labels | None = None) -> Tensor:
        return self._importance_log_weights(x, k, random, gather=False)

    def _importance_log_weights(self, x: Tensor, k: int, random: Random, gather: bool) -> Tensor:
        mean, log_var = self.posterior(x)
        epsilon = random.normal(len(x), k, self.config.z_dim)
        z = mean.unsqueeze(1) + epsilon * (log_var / 2).exp().unsqueeze(1)  # [B, k, D]
        prior = gaussian_log_prob(z, torch.zeros_like(z), torch.zeros_like(z))
        posterior = gaussian_log_prob(z, mean.unsqueeze(1), log_var.unsqueeze(1))
        return self.log_likelihood_given(x, z, gather) + prior - posterior

    def log_likelihood_given(self, x: Tensor, z: Tensor, gather: bool = False) -> Tensor:
        """Compute log p(x | z) [B, k] in nats.

        Args:
            x: images [B, C, H, W].
            z: k codes per image [B, k, D].
            gather: while training, let the likelihood gather its statistics.
        """
        k = z.shape[1]
        repeated = x if k == 1 else x.repeat_interleave(k, 0)
        out = self._decoder_output(z.flatten(0, 1))
        if gather:
            self.likelihood.gather(repeated, out)
        return self.likelihood.log_prob(repeated, out).unflatten(0, (-1, k))

    def _encoder_input(self, x: Tensor) -> Tensor:
        """Return images as the encoder reads them: flat if it is dense, and in [0, 1] if pixels are probabilities."""
        x = to_range(x, "unit" if self.config.likelihood == "bernoulli" else "signed")
        return x.flatten(1) if self.config.net == "dense" else x

    def _decoder_output(self, z: Tensor) -> Tensor:
        """Return the decoder's output [B, outputs, H, W], the parameters of p(x | z)."""
        out: Tensor = self.decoder(z)
        return out.unflatten(1, (self.likelihood.outputs, self.signal.height, self.signal.width)) if out.dim() == 2 else out


class _ConvPosterior(nn.Module):
    """Maps images [B, C, H, W] to the mean and log variance of q(z | x) [B, 2 z_dim]."""

    def __init__(self, signal: Image, c: VAEConfig) -> None:
        super().__init__()
        self.convolutions = ConvEncoder(signal.channels, c.width, c.residual_blocks, c.residual_channels, c.stride)
        self.last = nn.Linear(signal.height * signal.width // c.stride**2 * c.width, 2 * c.z_dim)

    def hidden(self, x: Tensor) -> Tensor:
        """Return the features before the last layer [B, F]."""
        return self.convolutions(x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.hidden(x))
        return out


class _ConvLikelihood(nn.Module):
    """Maps z [B, z_dim] to the parameters of p(x | z) [B, outputs, H, W]."""

    def __init__(self, signal: Image, c: VAEConfig, outputs: int) -> None:
        super().__init__()
        self.grid = (c.width, signal.height // c.stride, signal.width // c.stride)
        self.first = nn.Linear(c.z_dim, math.prod(self.grid))
        self.convolutions = ConvDecoder(c.width, outputs, c.width, c.residual_blocks, c.residual_channels, c.stride)

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.convolutions(self.first(z).unflatten(1, self.grid))
        return out


def binarised(x: Tensor, random: Random) -> Tensor:
    """Sample each pixel black (-1) or white (1), with its grey level in [-1, 1] as the probability of white."""
    return (random.uniform(*x.shape) < to_range(x, "unit")).to(x.dtype) * 2 - 1


def recipe(model: VAE) -> Recipe:
    """One phase: the negative bound in nats per image, summed over pixels and latent dimensions, averaged over the batch."""
    c, warm_up = model.config, WarmUp(model.config.kl_warmup)

    def elbo(batch: Batch, stage: Stage, random: Random) -> LossOutput:  # Kingma and Welling, equation 10
        x = binarised(batch.signals, random) if c.binarise else batch.signals
        mean, log_var = model.posterior(x)
        epsilon = random.normal(len(x), c.importance_samples, c.z_dim)
        z = mean.unsqueeze(1) + epsilon * (log_var / 2).exp().unsqueeze(1)
        kl = gaussian_kl(mean, log_var).mean(0)
        weight = c.beta * warm_up.weight(len(x))
        terms = {
            "reconstruction": -model.log_likelihood_given(x, z, gather=True).mean(),
            "kl": weight * kl.clamp(min=c.free_bits).sum(),
        }
        return LossOutput(terms, _posterior_metrics(mean, kl))

    def importance_weighted(batch: Batch, stage: Stage, random: Random) -> LossOutput:  # Burda et al., equation 8
        x = binarised(batch.signals, random) if c.binarise else batch.signals
        bound = iwae(model._importance_log_weights(x, c.importance_samples, random, gather=True)).mean()
        with torch.no_grad():
            mean, log_var = model.posterior(x)
        return LossOutput({"bound": -bound}, _posterior_metrics(mean, gaussian_kl(mean, log_var).mean(0)))

    loss = elbo if c.bound == "elbo" else importance_weighted
    return Recipe(
        phases=(Phase(c.bound, loss, trains=(model,), optimizers=("adam",), commit=(warm_up.commit, model.likelihood.commit)),),
        optimizers={"adam": Adam(list(model.parameters()), c.learning_rate, clip=SPIKE_CLIP)},
        loss_state=warm_up,
        group_size=None if c.free_bits else 1,  # free bits are of the mean over the batch
    )


def _posterior_metrics(mean: Tensor, kl: Tensor) -> dict[str, Tensor]:
    """Return the KL per dimension, its sum, and the number of active units."""
    return {"kl_per_dim": kl, "kl_unweighted": kl.sum(), "active_units": (mean.var(0) > ACTIVE).float().sum()}
