"""The style-based adversarial latent autoencoder (StyleALAE).

Pidhorskyi, Adjeroh, Doretto 2020, "Adversarial Latent Autoencoders", arXiv:2004.04467, section 5 and figure 2: StyleGAN's
generator, an encoder that extracts styles from instance statistics, and a discriminator that sees w alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anamorph.core.config import check
from anamorph.core.model import Encodes, Labels
from anamorph.core.optimizer import Adam
from anamorph.core.precision import at_least_float32, autocast_off
from anamorph.core.random import Random
from anamorph.core.recipe import LossOutput, Phase, Recipe
from anamorph.core.signal import Batch, Image
from anamorph.core.space import Codes
from anamorph.core.stage import Stage
from anamorph.losses.adversarial import AdversarialLoss, AdversarialSettings, critic_loss, generator_loss
from anamorph.losses.penalty import Critic
from anamorph.nn.equalized import Conv, Linear, lreq_adam
from anamorph.nn.mapping_network import MappingNetwork
from anamorph.nn.mlp import MLP, linear
from anamorph.nn.resample import blur, downsample, downsample_conv, fade_in
from anamorph.nn.style_based import Generated, StyleBased
from anamorph.nn.synthesis import Alpha, ChannelSchedule, Synthesis, SynthesisSettings, lerp_alpha, map_moments, num_blocks

__all__ = ["Encoder", "StyleALAE", "StyleALAEConfig", "recipe"]

MIN_VARIANCE = 1e-8
"""Feature maps with less variance than this count as constant."""


@dataclass(frozen=True)
class StyleALAEConfig:
    """Sizes and losses. The defaults are those of the released FFHQ model (github.com/podgorskiy/ALAE).

    `w_from`, `critic_input` and `regression` give the ablations of the paper's section 6.
    """

    w_dim: int = 512
    """Features of a style w, and of the noise z that F maps to it."""
    mapping_layers: int = 8
    """Layers of F."""
    critic_layers: int = 3
    """Layers of D, which is linear as released."""
    mapping_lr_multiplier: float = 0.1
    """Learning rate of F and D, relative to the others'."""
    w_from: Literal["styles", "styles and features", "features"] = "styles"
    """What E computes w from: statistics of its feature maps; these and its last features; or the last features alone."""
    critic_input: Literal["codes", "images"] = "codes"
    """What D sees: codes w, through E; or images, with an encoder of its own, so that E is trained in step III alone."""
    regression: Literal["w", "z"] = "w"
    """What E recovers in step III; if z, F maps it to w."""
    channel_base: int = 16384
    """Channels of feature maps times their shorter side."""
    channel_max: int = 512
    """Maximum channels of feature maps."""
    flipped_from: int | None = 128
    """From this side on, G's upsampling convolutions flip their kernels, as the original's fused layers do."""
    style_mixing_prob: float = 0.9
    """Probability of style mixing in steps I and II."""
    w_mean_beta: float = 0.995
    """Decay of the tracked mean of w."""
    adversarial_loss: AdversarialLoss = "logistic"
    """The paper's f: softplus (logistic) or the identity (wasserstein)."""
    r1: float = 10.0
    """Gamma of the R1 penalty, gamma / 2 times the squared gradient on real images (logistic)."""
    gradient_penalty: float = 10.0
    """Lambda, the weight of the penalty that keeps gradients at norm 1 (wasserstein)."""
    learning_rate: float = 0.0015
    """Learning rate before equalisation; a schedule multiplies it."""
    beta2: float = 0.99
    """Decay of Adam's second moment; that of the first is 0."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "w_dim", "mapping_layers", "critic_layers", "channel_base", "channel_max")
        check(self, "at least 0", "r1", "gradient_penalty")
        check(self, "above 0", "learning_rate", "mapping_lr_multiplier")
        check(self, "in [0, 1)", "beta2", "w_mean_beta")

    @property
    def channel_schedule(self) -> ChannelSchedule:
        """Channels by resolution."""
        return ChannelSchedule(self.channel_base, self.channel_max)


class StyleALAE(StyleBased, Encodes):
    """Maps images [B, C, H, W] in [-1, 1] to styles w [B, L, D] and back; samples w by mapping z ~ N(0, I).

    z --F--> w --G--> x --E--> w --D--> logit      E learns to invert G in w, whose distribution is learned, too.
    """

    def __init__(self, signal: Image, config: StyleALAEConfig) -> None:
        c = config
        mapping = MappingNetwork([c.w_dim] * (c.mapping_layers + 1), slope=0.2, lr_multiplier=c.mapping_lr_multiplier)  # F
        settings = SynthesisSettings(flipped_from=c.flipped_from, rgb_gain=0.03, shared_first_noise=True, noise_off="bump")
        super().__init__(
            mapping, Synthesis(signal, c.w_dim, c.channel_schedule, settings), c.w_dim, c.w_dim, c.w_mean_beta
        )  # G
        self.config = config
        self.encoder = Encoder(signal, c, c.w_from)  # E
        self.critic_encoder = Encoder(signal, c, "features") if c.critic_input == "images" else None
        self.critic = MLP([*[c.w_dim] * c.critic_layers, 1], linear, lr_multiplier=c.mapping_lr_multiplier)  # D

    def _encode(self, x: Tensor, labels: Labels) -> Codes:
        """Return the same w for all layers, from images at the level of this view."""
        w = self.encoder(x, self.stage.level, self.stage.alpha)
        w = self.mapping(w) if self.config.regression == "z" else w
        return {"w": w.unsqueeze(1).expand(-1, self.layers, -1)}

    def critic_logits(self, x: Tensor, level: int = 0, alpha: Alpha = 1.0) -> Tensor:
        """Return D(E(x)): logits [B] of images; unless ablated, D sees w, never pixels."""
        w = (self.critic_encoder or self.encoder)(x, level, alpha)
        with autocast_off(w):
            return self.critic(w).squeeze(1)


class Encoder(nn.Module):
    """Computes w [B, D] of images [B, C, H >> level, W >> level], as the sum of the styles of all blocks (figure 2).

    Args:
        image: size of the images at level 0.
        config: sizes.
        w_from: as in `StyleALAEConfig`; with "features", w is a linear function of the last block's features.
    """

    def __init__(self, image: Image, config: StyleALAEConfig, w_from: str) -> None:
        super().__init__()
        sides = [4 * 2**block for block in reversed(range(num_blocks(image)))]
        inputs = [
            max(1, config.channel_base // sides[0]),
            *(config.channel_schedule.at(side) for side in sides[1:]),
        ]  # the first has no maximum
        outputs = [config.channel_schedule.at(side // 2) for side in sides]
        end = image.at(len(sides) - 1)
        area = [None] * (len(sides) - 1) + [None if w_from == "styles" else end.height * end.width]
        w_dim = 0 if w_from == "features" else config.w_dim
        self.from_rgb = nn.ModuleList(Conv(image.channels, width, 1) for width in inputs)
        self.blocks = nn.ModuleList(_EncoderBlock(i, o, w_dim, a) for i, o, a in zip(inputs, outputs, area, strict=True))
        self.last = Linear(outputs[-1], config.w_dim, gain=1.0) if w_from == "features" else None

    def forward(self, x: Tensor, level: int = 0, alpha: Alpha = 1.0) -> Tensor:
        w, features = self.styles_and_features(x, level, alpha)
        return w if self.last is None else at_least_float32(self.last(features))

    def styles_and_features(self, x: Tensor, level: int = 0, alpha: Alpha = 1.0) -> tuple[Tensor, Tensor]:
        """Return the sum of all blocks' styles [B, D], and the features after the last block."""
        h, w = self._from_rgb(x, level), torch.zeros((), device=x.device)
        for i, block in enumerate(self.blocks[level:]):
            h, style = block(h)
            if i == 0 and (isinstance(alpha, Tensor) or alpha < 1):
                style = style * alpha
                h = lerp_alpha(self._from_rgb(downsample(x), level + 1), h, alpha)
            w = w + style
        return w, h

    def _from_rgb(self, x: Tensor, level: int) -> Tensor:
        """Convert pixels to features; the original applies the activation twice."""
        return _activate(_activate(self.from_rgb[level](x)))


class _EncoderBlock(nn.Module):
    """Two layers, each followed by instance normalisation: [B, I, 2h, 2w] -> [B, O, h, w], and a summand of w [B, D].

    The summand is a linear function of the instance statistics of both layers.

    Args:
        inputs: I.
        outputs: O.
        w_dim: D; 0: no normalisation, and no summand of w.
        area: None: the second layer is a convolution that downsamples; otherwise it is fully connected, gives [B, O], and this
            is the number of pixels of its input.
    """

    def __init__(self, inputs: int, outputs: int, w_dim: int, area: int | None) -> None:
        super().__init__()
        self.conv, self.down = Conv(inputs, inputs), None if area else Conv(inputs, outputs)
        self.dense = Linear(inputs * area, outputs) if area else None
        self.read_1 = Linear(2 * inputs, w_dim) if w_dim else None
        self.read_2 = Linear(outputs if area else 2 * outputs, w_dim) if w_dim else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x, first = self._normalise(self.read_1, _activate(self.conv(x)))
        if self.dense is not None:
            x = _activate(self.dense(x.flatten(1)))
        else:
            assert self.down is not None
            x = _activate(downsample_conv(blur(x), self.down.weight, self.down.bias))
        x, second = self._normalise(self.read_2, x)
        return x, first + second

    def _normalise(self, layer: Linear | None, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised feature maps, and a linear function of their means and (biased) standard deviations [B, 2C].

        Features without height and width are not normalised: the linear function is of themselves.
        """
        if layer is None:
            return x, torch.zeros((), device=x.device)
        statistics = at_least_float32(x)
        if x.dim() == 4:
            mean, variance, centred = map_moments(x)
            statistics = torch.cat([mean, _standard_deviation(variance)], 1).flatten(1)
            x = (centred * torch.rsqrt(variance + 1e-5)).to(x.dtype)
        with autocast_off(x):
            return x, layer(statistics)


def _activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


def _standard_deviation(variance: Tensor) -> Tensor:
    """Return the square root, without gradient where the variance is almost zero, as rounding to bfloat16 may make it.

    There its gradient would be infinite.
    """
    return torch.where(variance > MIN_VARIANCE, variance.clamp_min(MIN_VARIANCE).sqrt(), variance.detach().sqrt())


def recipe(model: StyleALAE) -> Recipe:
    """Algorithm 1: update E and D (I), F and G (II), then E and G by the error in w (III; also F, as in the original code)."""
    c = model.config
    settings = AdversarialSettings(c.adversarial_loss, r1=c.r1, gradient_penalty=c.gradient_penalty)

    def critic_at(stage: Stage) -> Critic:
        return lambda x: model.critic_logits(x, stage.level, stage.alpha)

    def generate(batch: Batch, stage: Stage, random: Random, mixing_prob: float) -> Generated:
        return model.generate(batch, stage, random, mixing_prob, model.layers_at(stage.level))

    def critic(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        with torch.no_grad():
            fake = generate(batch, stage, random, c.style_mixing_prob).image
        return critic_loss(critic_at(stage), fade_in(batch.signals, stage.alpha), fake, settings, random)

    def generator(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        fake = generate(batch, stage, random, c.style_mixing_prob).image
        return LossOutput({"adversarial": generator_loss(critic_at(stage)(fake), c.adversarial_loss)})

    def reciprocity(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        generated = generate(batch, stage, random, mixing_prob=0.0)
        recovered = model.encoder(generated.image, stage.level, stage.alpha)
        target = generated.z if c.regression == "z" else generated.w.detach()
        return LossOutput({"latent": (recovered - target).square().mean()})

    f, g, e, d = model.mapping, model.synthesis, model.encoder, model.critic
    critic_modules, stepped = (model.critic_encoder or e, d), ("critic" if model.critic_encoder else "encoder",)
    both, commit, chance = ("encoder", "generator"), (model.w_mean_tracker.commit,), settings.chance_loss
    return Recipe(
        phases=(
            Phase("critic", critic, critic_modules, stepped, role="critic", commit=commit, chance_loss=chance),
            Phase("generator", generator, (f, g), ("generator",), role="generator", commit=commit),
            Phase("reciprocity", reciprocity, (e, f, g), both, role="inversion", commit=commit),
        ),
        optimizers=_optimizers(model),
        missing_gradient="zero",  # D, too, is stepped in III, with a gradient of zero, as in the original
    )


def _optimizers(model: StyleALAE) -> dict[str, Adam]:
    """Return LREQAdam for F and G, and for E and D; if D has an encoder of its own, E has an optimizer of its own."""
    c = model.config
    optimizers = {"generator": lreq_adam(c.learning_rate, model.mapping, model.synthesis, beta2=c.beta2)}
    if model.critic_encoder is None:
        return optimizers | {"encoder": lreq_adam(c.learning_rate, model.encoder, model.critic, beta2=c.beta2)}
    return optimizers | {
        "encoder": lreq_adam(c.learning_rate, model.encoder, beta2=c.beta2),
        "critic": lreq_adam(c.learning_rate, model.critic_encoder, model.critic, beta2=c.beta2),
    }
