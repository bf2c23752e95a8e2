"""The style-based generative adversarial network.

Karras, Laine, Aila 2018, "A Style-Based Generator Architecture for Generative Adversarial Networks", arXiv:1812.04948;
it grows as in Karras et al. 2017, "Progressive Growing of GANs", arXiv:1710.10196.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anamorph.core.config import check
from anamorph.core.errors import UserError
from anamorph.core.precision import at_least_float32
from anamorph.core.random import Random
from anamorph.core.recipe import LossOutput, Phase, Recipe
from anamorph.core.signal import Batch, Image
from anamorph.core.stage import Stage
from anamorph.losses.adversarial import AdversarialLoss, AdversarialSettings, critic_loss, generator_loss
from anamorph.losses.penalty import Critic
from anamorph.nn.equalized import Conv, Linear, equalized_adam
from anamorph.nn.mapping_network import MappingNetwork
from anamorph.nn.resample import blur, downsample, downsample_conv, fade_in
from anamorph.nn.style_based import StyleBased
from anamorph.nn.synthesis import Alpha, ChannelSchedule, Synthesis, SynthesisSettings, lerp_alpha, num_blocks

__all__ = ["Discriminator", "StyleGAN", "StyleGANConfig", "recipe"]


@dataclass(frozen=True)
class StyleGANConfig:
    """Sizes and losses. The defaults are the paper's configuration F; switching parts off gives the rows of its Table 1."""

    z_dim: int = 512
    """Features of the noise z."""
    w_dim: int = 512
    """Features of a style w."""
    mapping_width: int = 512
    """Units in the mapping network's hidden layers."""
    mapping_layers: int = 8
    """Layers of the mapping network; 0: w is the normalised z."""
    mapping_lr_multiplier: float = 0.01
    """Learning rate of the mapping network, relative to the others'."""
    channel_base: int = 16384
    """Channels of feature maps times their shorter side."""
    channel_max: int = 512
    """Maximum channels of feature maps."""
    num_classes: int = 0
    """Number of classes on which generator and discriminator are conditioned; 0: none."""
    label: str = "class"
    """Name of the label that holds the class."""
    constant_input: bool = True
    """Start the synthesis from a learned constant (configuration D), or else from a dense layer of w."""
    styles: bool = True
    """Styles at every layer (configuration C)."""
    noise: bool = True
    """Noise at every layer (configuration E)."""
    blur: bool = True
    """Blur after upsampling and before downsampling (configuration B)."""
    norm: Literal["instance", "pixel"] = "instance"
    """Normalisation of the generator's feature maps; pixel before configuration C."""
    slope: float = 0.2
    """Slope of the leaky ReLU; 0: ReLU."""
    flipped_from: int | None = 128
    """From this side on, the generator's upsampling convolutions flip their kernels, as the original's fused layers do."""
    style_mixing_prob: float = 0.9
    """Probability of style mixing (configuration F)."""
    mbstd_group_size: int = 4
    """Images in a group of the minibatch standard deviation."""
    w_mean_beta: float = 0.995
    """Decay of the tracked mean of w."""
    adversarial_loss: AdversarialLoss = "logistic"
    """logistic, saturating, or wasserstein."""
    r1: float = 10.0
    """Gamma of the R1 penalty, gamma / 2 times the squared gradient on real images (not wasserstein)."""
    r2: float = 0.0
    """Twice the weight of the gradient penalty on generated images (not wasserstein)."""
    gradient_penalty: float = 10.0
    """Lambda, the weight of the penalty that keeps gradients at norm 1 (wasserstein)."""
    learning_rate: float = 0.001
    """Learning rate; a schedule multiplies it."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "z_dim", "w_dim", "mapping_width", "channel_base", "channel_max", "mbstd_group_size")
        check(self, "at least 0", "mapping_layers", "num_classes", "r1", "r2", "gradient_penalty", "slope")
        check(self, "above 0", "learning_rate", "mapping_lr_multiplier")
        check(self, "in [0, 1)", "w_mean_beta")
        if not self.mapping_layers and self.w_dim != self.z_dim * (1 + bool(self.num_classes)):
            expected = self.z_dim * (1 + bool(self.num_classes))
            raise UserError(f"without mapping layers w is z, so w_dim must be {expected}, got {self.w_dim}")

    @property
    def channel_schedule(self) -> ChannelSchedule:
        """Channels by resolution."""
        return ChannelSchedule(self.channel_base, self.channel_max)

    @property
    def synthesis_settings(self) -> SynthesisSettings:
        """The parts of the synthesis network."""
        return SynthesisSettings(
            self.constant_input, self.styles, self.noise, self.blur, self.norm, self.slope, self.flipped_from
        )


class StyleGAN(StyleBased):
    """Maps z [B, Z] ~ N(0, I) to styles w [B, L, D] (f), and these to images [B, C, H, W] (g, figure 1b); it has no encoder."""

    def __init__(self, signal: Image, config: StyleGANConfig) -> None:
        c = config
        hidden = [c.mapping_width] * (c.mapping_layers - 1) + [c.w_dim] * bool(c.mapping_layers)
        mapping = MappingNetwork([c.z_dim, *hidden], c.slope, c.mapping_lr_multiplier, c.num_classes)
        synthesis = Synthesis(signal, c.w_dim, c.channel_schedule, c.synthesis_settings)
        super().__init__(mapping, synthesis, c.z_dim, c.w_dim, c.w_mean_beta, c.label)
        self.config = config
        self.discriminator = Discriminator(signal, c)


class Discriminator(nn.Module):
    """Computes logits [B] of images [B, C, H >> level, W >> level] in [-1, 1], given their classes where there are any.

    Karras et al. 2017, table 2.
    """

    def __init__(self, image: Image, config: StyleGANConfig) -> None:
        super().__init__()
        self.config, self.depth = config, num_blocks(image)
        sides = [4 * 2**block for block in reversed(range(self.depth))]
        channels = [config.channel_schedule.at(side) for side in sides]
        self.from_rgb = nn.ModuleList(Conv(image.channels, width, 1) for width in channels)
        self.blocks = nn.ModuleList(_DiscriminatorBlock(a, b, config) for a, b in pairwise(channels))
        last, end = channels[-1], image.at(self.depth - 1)
        self.conv = Conv(last + 1, last)
        self.hidden = Linear(last * end.height * end.width, last)
        self.logits = Linear(last, max(config.num_classes, 1), gain=1.0)

    def forward(self, x: Tensor, level: int = 0, alpha: Alpha = 1.0, classes: Tensor | None = None) -> Tensor:
        h = self._activate(self.from_rgb[level](x))
        for i, block in enumerate(self.blocks[level:]):
            h = block(h)
            if i == 0 and (isinstance(alpha, Tensor) or alpha < 1):
                h = lerp_alpha(self._activate(self.from_rgb[level + 1](downsample(x))), h, alpha)
        h = torch.cat([h, minibatch_stddev(h, self.config.mbstd_group_size)], 1)
        h = self._activate(self.hidden(self._activate(self.conv(h)).flatten(1)))
        logits: Tensor = at_least_float32(self.logits(h))
        return logits.squeeze(1) if classes is None else logits.gather(1, classes.unsqueeze(1)).squeeze(1)

    def _activate(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.config.slope)


class _DiscriminatorBlock(nn.Module):
    """Two convolutions, the second of which downsamples: [B, I, 2h, 2w] -> [B, O, h, w]."""

    def __init__(self, inputs: int, outputs: int, config: StyleGANConfig) -> None:
        super().__init__()
        self.config = config
        self.conv, self.down = Conv(inputs, inputs), Conv(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv(x), self.config.slope)
        x = blur(x) if self.config.blur else x
        return F.leaky_relu(downsample_conv(x, self.down.weight, self.down.bias), self.config.slope)


def minibatch_stddev(x: Tensor, group_size: int) -> Tensor:
    """Compute the minibatch standard deviation, one constant map per image [B, 1, h, w] (Karras et al. 2017, section 3).

    The standard deviation over the images of a group is averaged over features and positions.

    Args:
        x: feature maps [B, C, h, w].
        group_size: images in a group, which are strided over the batch.

    Raises: UserError if the batch is no multiple of the group size.
    """
    size = min(group_size, len(x))
    if len(x) % size:
        raise UserError(
            f"a batch of {len(x)} has no groups of {size} images: use a batch size that {group_size} divides (--batch)"
        )
    groups = at_least_float32(x).unflatten(0, (size, -1))  # [G, M, C, h, w]
    spread = (groups.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3))  # [M]
    return spread.repeat(size).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:]).to(x.dtype)


def recipe(model: StyleGAN) -> Recipe:
    """Two phases, as in Karras et al. 2018, appendix C: non-saturating logistic loss, R1 with gamma = 10, style mixing."""
    c = model.config
    settings = AdversarialSettings(c.adversarial_loss, c.r1, c.r2, c.gradient_penalty, drift=0.001)

    def generate(batch: Batch, stage: Stage, random: Random) -> Tensor:
        return model.generate(batch, stage, random, c.style_mixing_prob, model.layers_at(stage.level) - 1).image

    def critic_of(batch: Batch, stage: Stage) -> Critic:
        classes = model.classes_of(len(batch), batch.labels)
        return lambda x: model.discriminator(x, stage.level, stage.alpha, classes)

    def critic(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        with torch.no_grad():
            fake = generate(batch, stage, random)
        return critic_loss(critic_of(batch, stage), fade_in(batch.signals, stage.alpha), fake, settings, random)

    def generator(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        logits = critic_of(batch, stage)(generate(batch, stage, random))
        return LossOutput({"adversarial": generator_loss(logits, c.adversarial_loss)})

    d, commit = model.discriminator, (model.w_mean_tracker.commit,)
    g = (model.mapping, model.synthesis)
    return Recipe(
        phases=(
            Phase(
                "critic",
                critic,
                trains=(d,),
                optimizers=("critic",),
                role="critic",
                commit=commit,
                chance_loss=settings.chance_loss,
            ),
            Phase("generator", generator, trains=g, optimizers=("generator",), role="generator", commit=commit),
        ),
        optimizers={"critic": equalized_adam(c.learning_rate, d), "generator": equalized_adam(c.learning_rate, *g)},
        group_size=c.mbstd_group_size,
    )
