"""The adversarial latent autoencoder with multi-layer perceptrons (MLP-ALAE).

Pidhorskyi, Adjeroh, Doretto 2020, "Adversarial Latent Autoencoders", arXiv:2004.04467, section 4 and Algorithm 1. A GAN whose
generator is G . F and whose discriminator is D . E, so that w has one distribution, that of F(z), and E inverts G in w.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from anamorph.core.config import check
from anamorph.core.model import Encodes, HasMapping, Labels, Noise
from anamorph.core.precision import at_least_float32, autocast_off
from anamorph.core.random import Random
from anamorph.core.recipe import LossOutput, Phase, Recipe
from anamorph.core.signal import Batch, Image
from anamorph.core.space import Codes, Space
from anamorph.core.stage import Stage
from anamorph.losses.adversarial import AdversarialLoss, AdversarialSettings, critic_loss, generator_loss
from anamorph.nn.equalized import lreq_adam, pixel_norm
from anamorph.nn.mlp import MLP, leaky, linear
from anamorph.nn.running_stats import RunningMean
from anamorph.nn.value_ranges import PixelRange, from_range, to_range

__all__ = ["ALAE", "ALAEConfig", "recipe"]


@dataclass(frozen=True)
class ALAEConfig:
    """Sizes and losses. The defaults are those of the author's MNIST code (github.com/podgorskiy/ALAE, branch mnist_ref).

    That code gave the paper's Table 1. It departs from the paper's text in the slopes below, and in D, which is linear.
    """

    w_dim: int = 50
    """Features of the latent code w."""
    z_dim: int = 50
    """Features of the noise z that F maps to w."""
    eta_dim: int = 0
    """Features of G's independent noise (the paper's eta); the released code has none."""
    width: int = 1024
    """Units in each of the two hidden layers of G and E."""
    mapping_layers: int = 6
    """Layers of F."""
    critic_layers: int = 3
    """Layers of D."""
    pixel_range: PixelRange = "unit"
    """Range of pixels in G and E: [0, 1] (unit), or [-1, 1] (signed) as in the released classes."""
    resolution: int | None = None
    """Side of the square images in G and E, to and from which images are resized by nearest neighbour; None: no resizing."""
    encoder_slope: float = 0.2
    """Slope of the leaky ReLU of E's hidden layers."""
    code_slope: float = 0.01
    """Slope of the leaky ReLU after E's last layer (0.2 in the released classes)."""
    generator_slope: float = 0.01
    """Slope of the leaky ReLU of G's hidden layers (0.2 in the released classes)."""
    adversarial_loss: AdversarialLoss = "logistic"
    """The paper's f: softplus (logistic) or the identity (wasserstein)."""
    r1: float = 10.0
    """Gamma of the R1 penalty, gamma / 2 times the squared gradient on real images (logistic)."""
    gradient_penalty: float = 10.0
    """Lambda, the weight of the penalty that keeps gradients at norm 1 (wasserstein, which is unbounded without it)."""
    learning_rate: float = 0.002
    """Learning rate before equalisation. The paper's is for tens of millions of images; below one million, 0.006 is better."""
    beta2: float = 0.99
    """Decay of Adam's second moment; that of the first is 0."""
    w_mean_beta: float = 0.995
    """Decay of the tracked mean of w."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "w_dim", "z_dim", "width", "mapping_layers", "critic_layers", "resolution")
        check(self, "at least 0", "eta_dim", "r1", "gradient_penalty")
        check(self, "above 0", "learning_rate")
        check(self, "in [0, 1)", "beta2", "w_mean_beta")


class ALAE(Encodes, HasMapping):
    """Maps images [B, C, H, W] in [-1, 1] to w [B, w_dim] and back; samples w by mapping z ~ N(0, I).

        z --F--> w --G--> x --E--> w --D--> logit      E learns to invert G in w, whose distribution is learned, too.

    With eta_dim > 0, G also reads the optional code "eta" [B, eta_dim] ~ N(0, I), which E does not infer.
    """

    signal: Image
    eta: Tensor

    def __init__(self, signal: Image, config: ALAEConfig) -> None:
        super().__init__()
        self.signal, self.config = signal, config
        c = config
        side = (c.resolution, c.resolution) if c.resolution else (signal.height, signal.width)
        self.network_image = Image(signal.channels, *side)
        self.z_space = Space("z", (c.z_dim,))
        eta = (Space("eta", (c.eta_dim,), optional=True, role="noise"),) if c.eta_dim else ()
        self.spaces = (Space("w", (c.w_dim,)), *eta)
        self.mapping = MLP([c.z_dim, *[c.w_dim] * c.mapping_layers], leaky(0.2), leaky(0.2), lr_multiplier=0.1)  # F
        self.generator = MLP(
            [c.w_dim + c.eta_dim, c.width, c.width, self.network_image.num_values], leaky(c.generator_slope)
        )  # G
        self.encoder = MLP(  # E
            [self.network_image.num_values, c.width, c.width, c.w_dim], leaky(c.encoder_slope), leaky(c.code_slope)
        )
        self.critic = MLP([*[c.w_dim] * c.critic_layers, 1], linear, lr_multiplier=0.1)  # D, linear as released
        self.w_mean_tracker = RunningMean(c.w_dim, beta=c.w_mean_beta)
        self.register_buffer("eta", torch.randn(c.eta_dim))

    @property
    def w_mean(self) -> Codes:
        return {"w": self.w_mean_tracker.mean}

    def map(self, z: Tensor, labels: Labels | None = None) -> Codes:
        with autocast_off(z):
            return {"w": self.mapping(pixel_norm(z))}

    def sample_codes(self, n: int, random: Random, labels: Labels | None = None) -> Codes:
        codes = self.map(random.normal(n, self.config.z_dim))
        return codes | ({"eta": random.normal(n, self.config.eta_dim)} if self.config.eta_dim else {})

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        """Return images [B, C, H, W] from w and eta; where eta is not given, it is fixed, zero (off), or sampled."""
        return from_range(self.generate(codes, noise), self.config.pixel_range)

    def _encode(self, x: Tensor, labels: Labels) -> Codes:
        return {"w": self.embed(to_range(x, self.config.pixel_range))}

    def features(self, x: Tensor) -> Tensor:
        """Return E's last hidden activation [B, width] of images in [-1, 1] (the paper's long features)."""
        return at_least_float32(self.encoder.hidden(self._flat(to_range(x, self.config.pixel_range))))

    def generate(self, codes: Codes, noise: Noise = "fixed") -> Tensor:
        """Return G(w, eta): images [B, C, H, W] in the network's own range."""
        inputs = codes["w"]
        if self.config.eta_dim:
            inputs = torch.cat([inputs, self._eta(codes, noise)], 1)
        pixels = at_least_float32(self.generator(inputs)).unflatten(1, self.network_image.shape)  # [B, C, h, w]
        return _resize(pixels, self.signal)

    def embed(self, x: Tensor) -> Tensor:
        """Return E(x): w [B, w_dim] of images in the network's own range."""
        return at_least_float32(self.encoder(self._flat(x)))

    def critic_logits(self, x: Tensor) -> Tensor:
        """Return D(E(x)): logits [B] of images in the network's own range; D sees w, never pixels."""
        w = self.embed(x)
        with autocast_off(w):
            return self.critic(w).squeeze(1)

    def _flat(self, x: Tensor) -> Tensor:
        return _resize(x, self.network_image).flatten(1)

    def _eta(self, codes: Codes, noise: Noise) -> Tensor:
        n = len(codes["w"])
        if "eta" in codes:
            return codes["eta"]
        if isinstance(noise, Random):
            return noise.normal(n, self.config.eta_dim)
        return (self.eta if noise == "fixed" else torch.zeros_like(self.eta)).expand(n, -1)


def _resize(x: Tensor, image: Image) -> Tensor:
    size = (image.height, image.width)
    return x if x.shape[-2:] == size else F.interpolate(x, size, mode="nearest")


def recipe(model: ALAE) -> Recipe:
    """Algorithm 1: update E and D (I), F and G (II), then E and G by the error in w (III; also F, as in the original code)."""
    c = model.config
    settings = AdversarialSettings(c.adversarial_loss, r1=c.r1, gradient_penalty=c.gradient_penalty)

    def sample(batch: Batch, random: Random) -> Codes:
        codes = model.sample_codes(len(batch), random)
        model.w_mean_tracker.gather(codes["w"])
        return codes

    def critic(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        real = to_range(batch.signals, c.pixel_range)
        with torch.no_grad():
            fake = model.generate(sample(batch, random))
        return critic_loss(model.critic_logits, real, fake, settings, random)

    def generator(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        fake = model.generate(sample(batch, random))
        return LossOutput({"adversarial": generator_loss(model.critic_logits(fake), c.adversarial_loss)})

    def reciprocity(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        codes = sample(batch, random)
        w = model.embed(model.generate(codes))
        return LossOutput({"latent": (w - codes["w"].detach()).square().mean()})

    f, g, e, d = model.mapping, model.generator, model.encoder, model.critic
    commit = (model.w_mean_tracker.commit,)
    return Recipe(
        phases=(
            Phase(
                "critic",
                critic,
                trains=(e, d),
                optimizers=("encoder",),
                role="critic",
                commit=commit,
                chance_loss=settings.chance_loss,
            ),
            Phase("generator", generator, trains=(f, g), optimizers=("generator",), role="generator", commit=commit),
            Phase(
                "reciprocity",
                reciprocity,
                trains=(e, f, g),
                optimizers=("encoder", "generator"),
                role="inversion",
                commit=commit,
            ),
        ),
        optimizers={
            "encoder": lreq_adam(c.learning_rate, e, d, beta2=c.beta2),
            "generator": lreq_adam(c.learning_rate, f, g, beta2=c.beta2),
        },
        missing_gradient="zero",  # D is stepped in III as well, with a gradient of zero, as in the original
    )
