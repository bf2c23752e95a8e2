"""The variational autoencoder, with the ELBO or the importance-weighted bound as its objective.

Kingma and Welling 2013, "Auto-Encoding Variational Bayes", arXiv:1312.6114;
Burda, Grosse, Salakhutdinov 2015, "Importance Weighted Autoencoders", arXiv:1509.00519.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from anamorph.core.config import check
from anamorph.core.model import Bounds, Draws, Encodes, Noise
from anamorph.core.optimizer import Adam
from anamorph.core.precision import full_precision
from anamorph.core.random import Random
from anamorph.core.recipe import Outcome, Phase, Recipe
from anamorph.core.signal import Batch, Image
from anamorph.core.space import Codes, Space
from anamorph.core.stage import Stage
from anamorph.losses.likelihood import bernoulli_log_prob, gaussian_kl, gaussian_log_prob, iwae
from anamorph.nn.mlp import MLP, Activation, leaky
from anamorph.nn.scale import from_range, to_range

__all__ = ["VAE", "VAEConfig", "recipe"]

ACTIVE = 0.01
"""A unit is active if its posterior mean varies by more than this over the data (Burda et al., section 5.2)."""


@dataclass(frozen=True)
class VAEConfig:
    """Sizes, decoder and objective."""

    z_dim: int = 50
    """Features of the latent code z."""
    widths: tuple[int, ...] = (1024, 1024)
    """Units of the encoder's hidden layers; the decoder has the same, reversed."""
    activation: Literal["leaky_relu", "tanh"] = "leaky_relu"
    """Of the hidden layers; the paper's is tanh, which trains worse in deep nets."""
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    """p(x | z): bernoulli reads pixels as probabilities of white, in [0, 1]; gaussian has a mean and a variance per pixel."""
    log_var_floor: float | None = -6.0
    """The gaussian's least log variance, approached smoothly: without it (None, as in the paper) pixels that never change
    drive the density to infinity. -6 is a standard deviation of 0.05 on pixels in [-1, 1]."""
    objective: Literal["elbo", "iwae"] = "elbo"
    """elbo: one sample and the closed-form KL. iwae: the bound of `samples` importance weights."""
    samples: int = 1
    """Samples of q(z | x) per image and step."""
    rate: float = 0.0005
    """Adam's learning rate."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "z_dim", "samples", "widths")
        check(self, "above 0", "rate")


class VAE(Encodes, Draws, Bounds):
    """Maps images [B, C, H, W] in [-1, 1] to the mean of q(z | x) [B, z_dim] and back; draws z ~ N(0, I)."""

    signal: Image

    def __init__(self, signal: Image, config: VAEConfig) -> None:
        super().__init__()
        self.signal, self.config = signal, config
        c = config
        self.spaces = (Space("z", (c.z_dim,)),)
        activation: Activation = torch.tanh if c.activation == "tanh" else leaky(0.2)
        outputs = signal.values * (2 if c.likelihood == "gaussian" else 1)
        self.encoder = MLP([signal.values, *c.widths, 2 * c.z_dim], activation)
        self.decoder = MLP([c.z_dim, *reversed(c.widths), outputs], activation)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | x), each [B, z_dim]."""
        mean, log_var = self.encoder(self._pixels(x)).float().chunk(2, 1)
        return mean, log_var

    def encode(self, x: Tensor) -> Codes:
        return {"z": self.posterior(x)[0]}

    def features(self, x: Tensor) -> Tensor:
        """The encoder's last hidden activation [B, widths[-1]] of images in [-1, 1]."""
        return self.encoder.hidden(self._pixels(x)).float()

    def draw(self, n: int, random: Random, labels: Mapping[str, Tensor] | None = None) -> Codes:
        return {"z": random.normal(n, self.config.z_dim)}

    def decode(self, codes: Codes, noise: Noise = "fixed") -> Tensor:
        """Images [B, C, H, W]: the mean of p(x | z), or a sample of it."""
        centre, log_var = self._observed(codes["z"])
        if self.config.likelihood == "bernoulli":
            probability = centre.sigmoid()
            if isinstance(noise, Random):
                probability = (noise.uniform(*probability.shape) < probability).float()
            return from_range(probability, "unit").unflatten(1, self.signal.shape)
        if isinstance(noise, Random):
            centre = centre + noise.normal(*centre.shape) * (log_var / 2).exp()
        return centre.unflatten(1, self.signal.shape)

    def log_weights(self, x: Tensor, k: int, random: Random) -> Tensor:
        mean, log_var = self.posterior(x)
        epsilon = random.normal(len(x), k, self.config.z_dim)
        z = mean.unsqueeze(1) + epsilon * (log_var / 2).exp().unsqueeze(1)  # [B, k, D]
        prior = gaussian_log_prob(z, torch.zeros_like(z), torch.zeros_like(z))
        posterior = gaussian_log_prob(z, mean.unsqueeze(1), log_var.unsqueeze(1))
        return self.log_likelihood(x, z) + prior - posterior

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z) [B, k] in nats, of z [B, k, D]."""
        x = self._pixels(x).unsqueeze(1)
        centre, log_var = self._observed(z)
        with full_precision(x):
            if self.config.likelihood == "bernoulli":
                return bernoulli_log_prob(x, centre)
            return gaussian_log_prob(x, centre, log_var)

    def _pixels(self, x: Tensor) -> Tensor:
        return to_range(x, "unit" if self.config.likelihood == "bernoulli" else "signed").flatten(1)

    def _observed(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Logit (bernoulli, with nothing beside it) or mean and log variance (gaussian) of each pixel."""
        out = self.decoder(z).float()
        if self.config.likelihood == "bernoulli":
            return out, out
        mean, log_var = out.chunk(2, -1)
        floor = self.config.log_var_floor
        return mean, log_var if floor is None else floor + softplus(log_var - floor)


def recipe(model: VAE) -> Recipe:
    """One phase: minus the bound, in nats per image (a sum over pixels and latent dimensions, a mean over the batch)."""
    c = model.config

    def elbo(batch: Batch, stage: Stage, random: Random) -> Outcome:
        x = batch.signals
        mean, log_var = model.posterior(x)
        epsilon = random.normal(len(x), c.samples, c.z_dim)
        z = mean.unsqueeze(1) + epsilon * (log_var / 2).exp().unsqueeze(1)
        kl = gaussian_kl(mean, log_var).mean(0)
        terms = {"reconstruction": -model.log_likelihood(x, z).mean(), "kl": kl.sum()}
        return Outcome(terms, {"kl_per_dim": kl, "active_units": (mean.var(0) > ACTIVE).float().sum()})

    def importance(batch: Batch, stage: Stage, random: Random) -> Outcome:
        x = batch.signals
        bound = iwae(model.log_weights(x, c.samples, random)).mean()
        with torch.no_grad():
            mean, log_var = model.posterior(x)
            kl = gaussian_kl(mean, log_var).mean(0)
        return Outcome({"bound": -bound}, {"kl_per_dim": kl, "active_units": (mean.var(0) > ACTIVE).float().sum()})

    loss = elbo if c.objective == "elbo" else importance
    return Recipe(
        phases=(Phase(c.objective, loss, trains=(model,), steps=("adam",)),),
        optimizers={"adam": Adam(list(model.parameters()), c.rate)},
    )
