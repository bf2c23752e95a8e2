"""Gated dilated causal convolutions over time.

van den Oord et al. 2016, "WaveNet: A Generative Model for Raw Audio", arXiv:1609.03499, section 2 and figure 4. Dilations
are 1, 2, 4, ..., and begin again at 1 after a cycle; the input is padded with zeros on the left.

Features are [T, B, channels]. All sounds' features at one time lie together, so that each tap of a kernel is one matrix
product over a contiguous range of times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding, linear, pad, relu

from anamorph.core.config import check
from anamorph.core.errors import UserError
from anamorph.core.precision import autocast_off
from anamorph.core.random import Random
from anamorph.losses.log_prob import logistic_levels, logistic_levels_log_prob
from anamorph.nn.masked import dropout

__all__ = ["CausalConv", "WaveNetNetwork", "WaveNetSizes", "WaveNetStack"]


@dataclass(frozen=True)
class WaveNetSizes:
    """Sizes of a WaveNet."""

    layers: int = 20
    """Gated convolutions."""
    dilation_cycle: int = 10
    """Layers in a cycle of dilations 1, 2, 4, ...; the next cycle begins at 1 again."""
    kernel_size: int = 2
    """Taps of a dilated convolution."""
    residual_channels: int = 64
    """Channels of the residual path."""
    gate_channels: int = 64
    """Channels of a gate."""
    skip_channels: int = 128
    """Channels of the skip connections, which are summed over the layers."""
    head_channels: int = 128
    """Channels between the sum of the skip connections and the logits."""
    scale_sums: bool = True
    """Divide sums by the root of the number of terms, so that they do not grow with depth; the paper does not."""
    weight_norm: bool = False
    """Weight normalisation of the kernels."""
    dropout: float = 0.0
    """Dropout rate of the input of each dilated convolution."""

    def __post_init__(self) -> None:
        check(
            self,
            "at least 1",
            "layers",
            "dilation_cycle",
            "residual_channels",
            "gate_channels",
            "skip_channels",
            "head_channels",
        )
        check(self, "in [0, 1)", "dropout")
        if self.kernel_size < 2 or self.dilation_cycle > 24:
            raise UserError(
                f"kernel size must be at least 2 and the dilation cycle at most 24 layers, got {self.kernel_size} and "
                f"{self.dilation_cycle}"
            )

    @property
    def dilations(self) -> tuple[int, ...]:
        """Dilation of each layer."""
        return tuple(1 << i % self.dilation_cycle for i in range(self.layers))

    @property
    def receptive_field(self) -> int:
        """Number of inputs that an output depends on, in samples or codes."""
        return (self.kernel_size - 1) * sum(self.dilations) + 1


class CausalConv(nn.Conv1d):
    """A causal convolution [T, B, I] -> [T, B, O], with taps at a time and `dilation`, 2 * dilation, ... before it.

    Args:
        inputs: I.
        outputs: O.
        kernel_size: number of taps.
        dilation: distance between taps.
        weight_norm: w = g v / |v| (Salimans and Kingma 2016, arXiv:1602.07868, equation 2).
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int = 1, dilation: int = 1, weight_norm: bool = False) -> None:
        super().__init__(inputs, outputs, kernel_size, dilation=dilation)
        self.length = nn.Parameter(_norms(self.weight.detach())) if weight_norm else None

    def effective_weight(self) -> Tensor:
        """Return the weight [O, I, taps], normalised if it is."""
        return self.weight if self.length is None else self.weight * (self.length / _norms(self.weight))

    def forward(self, x: Tensor) -> Tensor:
        *earlier, current = self.effective_weight().unbind(2)
        out = linear(x, current, self.bias)
        for taps_back, weight in enumerate(reversed(earlier), 1):
            past = x[: -taps_back * self.dilation[0]]
            if len(past):
                out = out + pad(linear(past, weight), (0, 0, 0, 0, len(x) - len(past), 0))
        return out


def _norms(weight: Tensor) -> Tensor:
    """Return the norm of each output's kernel [O, 1, 1]."""
    return weight.flatten(1).norm(dim=1).view(-1, 1, 1)


class _WaveNetLayer(nn.Module):
    """One layer (figure 4): a gated dilated convolution with a skip output and, except in the last layer, a residual one."""

    def __init__(self, c: WaveNetSizes, dilation: int, last: bool) -> None:
        super().__init__()
        self.residual_channels = 0 if last else c.residual_channels
        self.dilated = CausalConv(c.residual_channels, 2 * c.gate_channels, c.kernel_size, dilation, c.weight_norm)
        self.out = CausalConv(c.gate_channels, self.residual_channels + c.skip_channels, weight_norm=c.weight_norm)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Return the gated activation [T, B, gate channels] (equation 2).

        Args:
            x: features [T, B, residual channels].
            condition: added before the gate [frames, B, 2 * gate channels], each frame for T / frames times.
        """
        activation: Tensor = self.dilated(x)
        if condition is not None:
            activation = (activation.unflatten(0, (len(condition), -1)) + condition.unsqueeze(1)).flatten(0, 1)
        a, b = activation.chunk(2, 2)
        return a.tanh() * b.sigmoid()

    def residual_and_skip(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return weight [O, gate channels] and bias of the residual output, and of the skip output."""
        weight, bias = self.out.effective_weight()[:, :, 0], self.out.bias
        assert bias is not None
        return (weight[: self.residual_channels], bias[: self.residual_channels]), (
            weight[self.residual_channels :],
            bias[self.residual_channels :],
        )


class WaveNetStack(nn.Module):
    """Maps features [T, B, residual channels] to the sum of the skip connections [T, B, skip channels].

    Args:
        config: sizes.
        num_classes: of a label; 0 for none.
        condition_channels: C of features [B, C, frames] on which it is conditioned, each for T / frames times; 0 for none.
    """

    def __init__(self, config: WaveNetSizes, num_classes: int = 0, condition_channels: int = 0) -> None:
        super().__init__()
        self.config = config
        last, gates = config.layers - 1, config.layers * 2 * config.gate_channels
        self.layers = cast(
            Sequence[_WaveNetLayer],
            nn.ModuleList(_WaveNetLayer(config, dilation, i == last) for i, dilation in enumerate(config.dilations)),
        )
        self.label = nn.Embedding(num_classes, gates) if num_classes else None
        self.condition = nn.Conv1d(condition_channels, gates, 1, bias=False) if condition_channels else None
        if self.label is not None:
            nn.init.normal_(self.label.weight, std=0.1)

    def forward(
        self, x: Tensor, label: Tensor | None = None, condition: Tensor | None = None, random: Random | None = None
    ) -> Tensor:
        """Compute the sum of the skip connections; given random numbers, inputs are dropped out."""
        gates, skips = [], []
        for layer, bias in zip(self.layers, self._conditions(label, condition), strict=True):
            residual, skip = layer.residual_and_skip()
            gates.append(layer(_dropout(x, self.config.dropout, random), bias))
            skips.append(skip)
            if layer.residual_channels:
                x = (x + linear(gates[-1], *residual)) * (math.sqrt(0.5) if self.config.scale_sums else 1.0)
        weights, biases = zip(*skips, strict=True)
        total: Tensor = linear(torch.cat(gates, 2), torch.cat(weights, 1), torch.stack(biases).sum(0))  # all skips at once
        return total * self.skip_scale

    @property
    def skip_scale(self) -> float:
        """Factor on the sum of the skip connections."""
        return math.sqrt(1 / self.config.layers) if self.config.scale_sums else 1.0

    def _conditions(self, label: Tensor | None, condition: Tensor | None) -> Sequence[Tensor | None]:
        """Return what is added before each layer's gate [1 or frames, B, 2 * gate channels]."""
        total: Tensor | None = None
        if self.label is not None:
            assert label is not None
            total = self.label(label).unsqueeze(0)
        if self.condition is not None:
            assert condition is not None
            features = linear(condition.movedim(2, 0), self.condition.weight[:, :, 0])  # time first, as x
            total = features if total is None else total + features
        return [None] * len(self.layers) if total is None else total.chunk(len(self.layers), 2)


def _dropout(x: Tensor, rate: float, random: Random | None) -> Tensor:
    """Apply dropout to features [T, B, C], with random numbers sampled sound by sound."""
    return dropout(x.transpose(0, 1), rate, random).transpose(0, 1)


class WaveNetNetwork(nn.Module):
    """Computes the distribution of each id, given the ids at earlier times, and those of earlier maps at its own time.

    Args:
        maps: ids at each time.
        num_codes: K, the number of different ids.
        config: sizes.
        num_classes: of a label; 0 for none.
        condition_channels: of features on which it is conditioned; 0 for none.
        mixture_components: of a mixture of logistics over ids, which then count as numbers; 0: a logit for each id.
        ordered: near ids have similar meanings, as levels of samples do, and begin with similar embeddings.
    """

    def __init__(
        self,
        maps: int,
        num_codes: int,
        config: WaveNetSizes,
        *,
        num_classes: int = 0,
        condition_channels: int = 0,
        mixture_components: int = 0,
        ordered: bool = False,
    ) -> None:
        super().__init__()
        c = config
        self.maps, self.num_codes, self.mixture_components = maps, num_codes, mixture_components
        self.embed = _embeddings(maps, num_codes, c.residual_channels, bool(mixture_components))
        self.earlier = _embeddings(maps - 1, num_codes, c.skip_channels, bool(mixture_components))
        if ordered and not mixture_components:
            for table in (*self.embed, *self.earlier):
                table.weight.data = _smooth_embedding(num_codes, table.weight.shape[1])
        self.start = nn.Parameter(torch.zeros(c.residual_channels))
        self.stack = WaveNetStack(c, num_classes, condition_channels)
        self.hidden = CausalConv(c.skip_channels, c.head_channels, weight_norm=c.weight_norm)
        outputs = 3 * mixture_components if mixture_components else num_codes
        self.last = cast(
            Sequence[CausalConv],
            nn.ModuleList(CausalConv(c.head_channels, outputs, weight_norm=c.weight_norm) for _ in range(maps)),
        )

    def forward(
        self, ids: Tensor, label: Tensor | None = None, condition: Tensor | None = None, random: Random | None = None
    ) -> Tensor:
        """Compute outputs [B, maps, T, outputs] for ids [B, maps, T]."""
        past = self.embedded(ids[:, :, :-1].permute(1, 2, 0))
        x = torch.cat([self.start.expand(1, len(ids), -1).to(past.dtype), past])
        return self.read(self.stack(x, label, condition, random), ids)

    def read(self, skips: Tensor, ids: Tensor) -> Tensor:
        """Compute outputs [B, maps, T, outputs] from the sum of the skips [T, B, skip channels], and ids of earlier maps."""
        outputs = []
        for m, last in enumerate(self.last):
            outputs.append(last(relu(self.hidden(relu(skips)))).movedim(1, 0))
            if m + 1 < self.maps:
                skips = skips + self.earlier[m](ids[:, m].t())
        return torch.stack(outputs, 1)

    def embedded(self, ids: Tensor) -> Tensor:
        """Return the sum of the embeddings [..., residual channels] of ids [maps, ...]."""
        first, *others = (embed(map_ids) for embed, map_ids in zip(self.embed, ids, strict=True))
        for other in others:
            first = first + other
        return first

    def logits(self, out: Tensor) -> Tensor:
        """Convert outputs [..., outputs] to logits [..., K]."""
        return logistic_levels(out.float(), self.num_codes) if self.mixture_components else out

    def log_prob(self, ids: Tensor, out: Tensor) -> Tensor:
        """Compute log p [B] in nats of ids [B, maps, T], given the outputs for them."""
        with autocast_off(out):
            if self.mixture_components:
                return logistic_levels_log_prob(ids, out.float(), self.num_codes).flatten(1).sum(1)
            each = cross_entropy(out.float().flatten(0, -2), ids.flatten(), reduction="none")
            return -each.view(len(ids), -1).sum(1)


class _Embedding(nn.Module):
    """Embeds ids as features [..., width]: a vector for each or, if ids are numbers, an affine function of their value."""

    values: Tensor

    def __init__(self, num_codes: int, width: int, numeric: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1 if numeric else num_codes, width))
        self.bias = nn.Parameter(torch.randn(width)) if numeric else None
        self.register_buffer("values", torch.linspace(-1, 1, num_codes if numeric else 0).unsqueeze(1), persistent=False)

    def rows(self) -> Tensor:
        """Return the embeddings of all ids [K, width]."""
        return self.weight if self.bias is None else self.values * self.weight + self.bias

    def forward(self, ids: Tensor) -> Tensor:
        return embedding(ids, self.rows())


def _smooth_embedding(num_codes: int, width: int) -> Tensor:
    """Return random embeddings [K, width] that vary slowly with the id.

    They are random combinations of a constant, the id and sinusoids, weaker for higher frequencies (like the Fourier features
    of Tancik et al. 2020, arXiv:2006.10739).
    """
    value = torch.linspace(-1, 1, num_codes)
    waves = [wave(math.pi * k * value) / math.sqrt(k) for k in (1, 2, 4, 8, 16) for wave in (torch.sin, torch.cos)]
    features = torch.stack([torch.full_like(value, 0.5), value, *waves], 1)
    return features @ torch.randn(features.shape[1], width) / 2


def _embeddings(count: int, num_codes: int, width: int, numeric: bool) -> Sequence[_Embedding]:
    return cast(Sequence[_Embedding], nn.ModuleList(_Embedding(num_codes, width, numeric) for _ in range(count)))
