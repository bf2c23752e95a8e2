"""The style-based synthesis network that StyleGAN and StyleALAE share.

Karras, Laine, Aila 2018, "A Style-Based Generator Architecture for Generative Adversarial Networks", arXiv:1812.04948,
figure 1b. Leaving out parts of it gives the rows of the paper's Table 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anamorph.core.errors import UserError
from anamorph.core.model import Noise
from anamorph.core.precision import at_least_float32
from anamorph.core.random import Random
from anamorph.core.signal import Image
from anamorph.core.space import Codes, Space
from anamorph.nn.equalized import Conv, Linear, pixel_norm
from anamorph.nn.resample import blur, upsample, upsample_conv

__all__ = [
    "Alpha",
    "ChannelSchedule",
    "Synthesis",
    "SynthesisSettings",
    "instance_norm",
    "lerp_alpha",
    "map_moments",
    "num_blocks",
]

Alpha = float | Tensor
"""How far the newest level has faded in, 0 to 1."""


@dataclass(frozen=True)
class ChannelSchedule:
    """Channels of feature maps by their shorter side: base / side, at most `maximum`."""

    base: int
    maximum: int

    def at(self, side: int) -> int:
        """Return the channels of feature maps with this shorter side."""
        return max(1, min(self.base // side, self.maximum))


@dataclass(frozen=True)
class SynthesisSettings:
    """The parts of a synthesis network.

    Args:
        constant: start from a learned constant, instead of a dense layer of w.
        styles: modulate the feature maps by w at every layer (AdaIN).
        noise: add a noise map at every layer.
        blur: blur after upsampling.
        norm: normalisation of the feature maps.
        slope: of the leaky ReLU; 0: ReLU.
        flipped_from: from this side on, upsampling convolutions flip their kernels, as the originals' fused layers do; None:
            never.
        rgb_gain: initial gain of the layers from features to pixels.
        shared_first_noise: use one noise map of the first layer for the whole batch.
        noise_off: without noise, add nothing, or a smooth function of the features ("bump", as in ALAE's code).
    """

    constant: bool = True
    styles: bool = True
    noise: bool = True
    blur: bool = True
    norm: Literal["instance", "pixel"] = "instance"
    slope: float = 0.2
    flipped_from: int | None = 128
    rgb_gain: float = 1.0
    shared_first_noise: bool = False
    noise_off: Literal["nothing", "bump"] = "nothing"


def map_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and biased variance [B, C, 1, 1] of feature maps [B, C, H, W], and the maps minus their mean.

    Two passes of plain sums: torch's var_mean takes ten times as long on a CPU (measured).
    """
    wide = at_least_float32(x)
    mean = wide.mean((2, 3), keepdim=True)
    centred = wide - mean
    return mean, centred.square().mean((2, 3), keepdim=True), centred


def instance_norm(x: Tensor, eps: float) -> Tensor:
    """Normalise each map of x [B, C, H, W] to mean 0 and (biased) variance 1."""
    _, variance, centred = map_moments(x)
    return (centred * torch.rsqrt(variance + eps)).to(x.dtype)


def lerp_alpha(old: Tensor, new: Tensor, alpha: Alpha) -> Tensor:
    """Interpolate linearly from old (alpha = 0) to new (alpha = 1)."""
    return old + (new - old) * alpha


def num_blocks(image: Image) -> int:
    """Return the number of resolutions from 4 pixels to an image's shorter side, each twice the one before.

    Raises: UserError unless both sides are powers of two from 8 on.
    """
    side = min(image.height, image.width)
    blocks = int(math.log2(side)) - 1 if side >= 8 else 0
    ratio = max(image.height, image.width) // side
    if blocks < 2 or 2 ** (blocks + 1) != side or ratio & (ratio - 1) or ratio * side != max(image.height, image.width):
        raise UserError(
            f"the sides of this model's images must be powers of two from 8 on, got {image}: use images of size "
            f"{2 ** max(3, side.bit_length() - 1)}, for instance (--size {2 ** max(3, side.bit_length() - 1)})"
        )
    return blocks


class _Layer(nn.Module):
    """(Upsampling and) convolution, noise, bias, activation, normalisation, style: [B, I, h, w] -> [B, O, H, W]."""

    def __init__(
        self, index: int, conv: Conv | None, channels: int, w_dim: int, side: int, upsamples: bool, settings: SynthesisSettings
    ) -> None:
        super().__init__()
        self.settings, self.upsamples, self.bump_width = settings, upsamples, math.sqrt(index // 2 + 1)
        self.flipped = settings.flipped_from is not None and side >= settings.flipped_from
        self.conv = conv
        self.bias = nn.Parameter(torch.zeros(channels))
        self.noise_weight = nn.Parameter(torch.zeros(channels)) if settings.noise else None
        self.style = Linear(w_dim, 2 * channels, gain=1.0) if settings.styles else None

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        if self.conv is not None:
            x = upsample_conv(x, self.conv.weight, self.flipped) if self.upsamples else self.conv(x)
        if self.upsamples and self.settings.blur:
            x = blur(x)
        if self.noise_weight is not None:
            x = self._add_noise(x, noise)
        x = F.leaky_relu(x + self.bias.view(-1, 1, 1), self.settings.slope)
        x = instance_norm(x, 1e-8) if self.settings.norm == "instance" else pixel_norm(x)
        if self.style is None:
            return x
        scale, shift = self.style(w).unflatten(1, (2, -1, 1, 1)).unbind(1)  # each [B, O, 1, 1]
        return x * (scale + 1) + shift

    def _add_noise(self, x: Tensor, noise: Tensor | None) -> Tensor:
        assert self.noise_weight is not None
        if noise is not None:
            return x + self.noise_weight.view(-1, 1, 1) * noise
        if self.settings.noise_off == "nothing":
            return x
        s = self.bump_width  # ALAE's replacement, 0.8 s N(x; 0, s^2) s
        return x + s * torch.exp(-x.square() / (2 * s**2)) / math.sqrt(2 * math.pi) * 0.8


class Synthesis(nn.Module):
    """Generate images [B, C, H >> level, W >> level] from styles [B, L, D], two per block of 4x4, 8x8, ... pixels."""

    def __init__(self, image: Image, w_dim: int, channels: ChannelSchedule, settings: SynthesisSettings) -> None:
        super().__init__()
        self.image, self.settings, self.blocks = image, settings, num_blocks(image)
        start = image.at(self.blocks - 1)
        self.start = (start.height, start.width)
        widths = [channels.at(4 * 2**block) for block in range(self.blocks)]
        if settings.constant:
            self.constant = nn.Parameter(torch.ones(1, widths[0], *self.start))
        else:
            outputs = widths[0] * start.height * start.width
            self.dense = Linear(w_dim, outputs, gain=math.sqrt(2.0) / 4, bias=False)
        self.layers = nn.ModuleList()
        for block, width in enumerate(widths):
            side = 4 * 2**block
            first = Conv(widths[block - 1], width, bias=False) if block else None
            for conv, upsamples in ((first, block > 0), (Conv(width, width, bias=False), False)):
                self.layers.append(_Layer(len(self.layers), conv, width, w_dim, side, upsamples, settings))
        self.to_rgb = nn.ModuleList(Conv(width, image.channels, 1, gain=settings.rgb_gain) for width in widths)
        for i, shape in enumerate(self.maps if settings.noise else []):
            self.register_buffer(f"noise_{i}", torch.randn(1, *shape))

    @property
    def maps(self) -> list[tuple[int, int, int]]:
        """Shape [1, h, w] of each layer's noise map."""
        return [(1, self.start[0] << i // 2, self.start[1] << i // 2) for i in range(2 * self.blocks)]

    @property
    def noise_spaces(self) -> tuple[Space, ...]:
        """Optional spaces of the noise maps."""
        return tuple(
            Space(f"noise.{i}", shape, optional=True, role="noise")
            for i, shape in enumerate(self.maps if self.settings.noise else [])
        )

    def noise(self, n: int, kind: Noise, level: int = 0, codes: Codes | None = None) -> list[Tensor | None]:
        """Return a noise map [n or 1, 1, h, w] per layer of a level: from codes, as stored (fixed), none (off), or sampled."""
        layers = 2 * (self.blocks - level)
        if not self.settings.noise:
            return [None] * layers
        maps: list[Tensor | None] = []
        for i, shape in enumerate(self.maps[:layers]):
            if codes and f"noise.{i}" in codes:
                maps.append(codes[f"noise.{i}"])
            elif isinstance(kind, Random):
                shared = i == 0 and self.settings.shared_first_noise
                maps.append(kind.normal(1 if shared else n, *shape, shared=shared))
            else:
                maps.append(getattr(self, f"noise_{i}") if kind == "fixed" else None)
        return maps

    def forward(self, styles: Tensor, noise: Sequence[Tensor | None], level: int = 0, alpha: Alpha = 1.0) -> Tensor:
        blocks = self.blocks - level
        if self.settings.constant:
            x = self.constant.expand(len(styles), -1, -1, -1)
        else:
            x = self.dense(styles[:, 0]).unflatten(1, (-1, *self.start))
        previous = x
        for block in range(blocks):
            previous = x
            for i in (2 * block, 2 * block + 1):
                x = self.layers[i](x, styles[:, i], noise[i])
        pixels: Tensor = self.to_rgb[blocks - 1](x)
        if blocks > 1 and (isinstance(alpha, Tensor) or alpha < 1):
            pixels = lerp_alpha(upsample(self.to_rgb[blocks - 2](previous)), pixels, alpha)
        return at_least_float32(pixels)

    def style_weights(self) -> list[Tensor]:
        """Return the matrix [2C, D] of each layer's styles."""
        return [layer.style.weight for layer in self.layers if isinstance(layer, _Layer) and layer.style is not None]
