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
from anamorph.core.precision import widened
from anamorph.core.random import Random
from anamorph.core.recipe import Outcome, Phase, Recipe
from anamorph.core.signal import Batch, Image
from anamorph.core.stage import Stage
from anamorph.losses.adversarial import Game, Objective, critic_loss, generator_loss
from anamorph.losses.penalty import Score
from anamorph.nn.equalized import Conv, Linear, equalized_adam
from anamorph.nn.mapping import Mapping
from anamorph.nn.resample import blur, downsample_conv, fade, halve
from anamorph.nn.styled import StyleBased
from anamorph.nn.synthesis import Anatomy, Blend, Synthesis, Widths, blocks_of, mix_blend

__all__ = ["Discriminator", "StyleGAN", "StyleGANConfig", "recipe"]


@dataclass(frozen=True)
class StyleGANConfig:
    """Sizes and losses. The defaults are the paper's configuration F; the switches below give the rows of its Table 1."""

    z_dim: int = 512
    """Features of the noise z."""
    w_dim: int = 512
    """Features of a style w."""
    mapping_width: int = 512
    """Units in the mapping network's hidden layers."""
    mapping_layers: int = 8
    """Layers of the mapping network; 0: w is z, normalised."""
    mapping_rate: float = 0.01
    """Its learning rate, relative to the others'."""
    channels: int = 16384
    """Channels of the feature maps times their shorter side."""
    most_channels: int = 512
    """The most channels of a feature map."""
    classes: int = 0
    """Draw images of a class: how many there are; 0: without classes."""
    label: str = "class"
    """The label that holds the class."""
    constant: bool = True
    """Start from a learned constant (configuration D); otherwise from a dense layer of w."""
    styles: bool = True
    """Styles at every layer (configuration C)."""
    noise: bool = True
    """Noise at every layer (configuration E)."""
    smooth: bool = True
    """Blur after doubling and before halving (configuration B)."""
    norm: Literal["instance", "pixel"] = "instance"
    """Of the generator's feature maps; pixel before configuration C."""
    slope: float = 0.2
    """Of the leaky ReLU; 0: ReLU."""
    flipped_from: int | None = 128
    """From this side on, the generator's doubling convolutions act with flipped kernels, as the original's fused ones."""
    mixing: float = 0.9
    """Probability of style mixing (configuration F)."""
    group: int = 4
    """Images over which the discriminator compares standard deviations."""
    mean_beta: float = 0.995
    """Decay of the tracked mean of w."""
    objective: Objective = "logistic"
    """logistic, saturating, or wasserstein."""
    r1: float = 10.0
    """Gamma, the weight of the gradient penalty on real images."""
    r2: float = 0.0
    """The same on generated ones."""
    gradient_penalty: float = 10.0
    """Lambda, the weight of the penalty that keeps slopes at one (wasserstein)."""
    rate: float = 0.001
    """Learning rate; a schedule multiplies it."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "z_dim", "w_dim", "mapping_width", "channels", "most_channels", "group")
        check(self, "at least 0", "mapping_layers", "classes", "r1", "r2", "gradient_penalty", "slope")
        check(self, "above 0", "rate", "mapping_rate")
        check(self, "in [0, 1)", "mean_beta")
        if not self.mapping_layers and self.w_dim != self.z_dim * (1 + bool(self.classes)):
            raise UserError(f"without a mapping network w is z: w_dim must be its size, got {self.w_dim} and {self.z_dim}")

    @property
    def widths(self) -> Widths:
        return Widths(self.channels, self.most_channels)

    @property
    def anatomy(self) -> Anatomy:
        return Anatomy(self.constant, self.styles, self.noise, self.smooth, self.norm, self.slope, self.flipped_from)


class StyleGAN(StyleBased):
    """Maps z [B, Z] ~ N(0, I) to styles w [B, L, D], and those to images [B, C, H, W]; it has no encoder."""

    def __init__(self, signal: Image, config: StyleGANConfig) -> None:
        c = config
        hidden = [c.mapping_width] * (c.mapping_layers - 1) + [c.w_dim] * bool(c.mapping_layers)
        mapping = Mapping([c.z_dim, *hidden], c.slope, c.mapping_rate, c.classes)
        synthesis = Synthesis(signal, c.w_dim, c.widths, c.anatomy)
        super().__init__(mapping, synthesis, c.z_dim, c.w_dim, c.mean_beta, c.label)
        self.config = config
        self.discriminator = Discriminator(signal, c)


class Discriminator(nn.Module):
    """Realness logits [B] of images [B, C, H >> level, W >> level] in [-1, 1] (of their class, where there are classes)."""

    def __init__(self, image: Image, config: StyleGANConfig) -> None:
        super().__init__()
        self.config, self.depth = config, blocks_of(image)
        sides = [4 * 2**block for block in reversed(range(self.depth))]
        channels = [config.widths.at(side) for side in sides]
        self.from_rgb = nn.ModuleList(Conv(image.channels, width, 1) for width in channels)
        self.blocks = nn.ModuleList(_Halving(a, b, config) for a, b in pairwise(channels))
        last, end = channels[-1], image.at(self.depth - 1)
        self.conv = Conv(last + 1, last)
        self.hidden = Linear(last * end.height * end.width, last)
        self.logits = Linear(last, max(config.classes, 1), gain=1.0)

    def forward(self, x: Tensor, level: int = 0, blend: Blend = 1.0, classes: Tensor | None = None) -> Tensor:
        h = self._activate(self.from_rgb[level](x))
        for i, block in enumerate(self.blocks[level:]):
            h = block(h)
            if i == 0 and (isinstance(blend, Tensor) or blend < 1):
                h = mix_blend(self._activate(self.from_rgb[level + 1](halve(x))), h, blend)
        h = torch.cat([h, deviation(h, self.config.group)], 1)
        h = self._activate(self.hidden(self._activate(self.conv(h)).flatten(1)))
        logits: Tensor = widened(self.logits(h))
        return logits.squeeze(1) if classes is None else logits.gather(1, classes.unsqueeze(1)).squeeze(1)

    def _activate(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.config.slope)


class _Halving(nn.Module):
    """Two convolutions, the second of which halves: [B, I, 2h, 2w] -> [B, O, h, w]."""

    def __init__(self, inputs: int, outputs: int, config: StyleGANConfig) -> None:
        super().__init__()
        self.config = config
        self.conv, self.down = Conv(inputs, inputs), Conv(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv(x), self.config.slope)
        x = blur(x) if self.config.smooth else x
        return F.leaky_relu(downsample_conv(x, self.down.weight, self.down.bias), self.config.slope)


def deviation(x: Tensor, group: int) -> Tensor:
    """How much images differ within groups, one map [B, 1, h, w] (Karras et al. 2017, section 3): the standard deviation
    over every group of strided images, averaged over features [B, C, h, w].

    Raises: UserError if the batch is no multiple of a group.
    """
    size = min(group, len(x))
    if len(x) % size:
        raise UserError(f"a batch of {len(x)} cannot be compared in groups of {size}: use a --batch divisible by {group}")
    groups = widened(x).unflatten(0, (size, -1))  # [G, M, C, h, w]
    spread = (groups.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3))  # [M]
    return spread.repeat(size).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:]).to(x.dtype)


def recipe(model: StyleGAN) -> Recipe:
    """Two phases, as in Karras et al. 2018, appendix C: logistic loss, R1, style mixing."""
    c = model.config
    game = Game(c.objective, c.r1, c.r2, c.gradient_penalty, drift=0.001)

    def generate(batch: Batch, stage: Stage, random: Random) -> Tensor:
        return model.generate(batch, stage, random, c.mixing, model.layers_at(stage.level) - 1).image

    def score(batch: Batch, stage: Stage) -> Score:
        classes = model.classes_of(len(batch), batch.labels)
        return lambda x: model.discriminator(x, stage.level, stage.blend, classes)

    def critic(batch: Batch, stage: Stage, random: Random) -> Outcome:
        with torch.no_grad():
            fake = generate(batch, stage, random)
        return critic_loss(score(batch, stage), fade(batch.signals, stage.blend), fake, game, random)

    def generator(batch: Batch, stage: Stage, random: Random) -> Outcome:
        scores = score(batch, stage)(generate(batch, stage, random))
        return Outcome({"adversarial": generator_loss(scores, c.objective)})

    d, commit = model.discriminator, (model.mean.commit,)
    drawn = (model.mapping, model.synthesis)
    return Recipe(
        phases=(
            Phase("critic", critic, trains=(d,), steps=("critic",), commit=commit),
            Phase("generator", generator, trains=drawn, steps=("generator",), commit=commit),
        ),
        optimizers={"critic": equalized_adam(c.rate, d), "generator": equalized_adam(c.rate, *drawn)},
        group=c.group,
    )
