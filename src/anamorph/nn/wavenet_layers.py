"""Gated convolutions that look back in time, each layer further than the one before it.

van den Oord et al. 2016, "WaveNet: A Generative Model for Raw Audio", arXiv:1609.03499, section 2 and figure 4. Convolutions
whose taps are 1, 2, 4, ... places apart, and again from 1 on; what lies before the beginning is zero.

Features are [T, B, channels]: what all sounds have at a place lies together, so that a tap is a product of matrices whose rows
are those from some place on, wherever it looks.
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
    """Of gated convolutions."""
    dilation_cycle: int = 10
    """Layers until the distance between taps, which doubles from layer to layer, is one again."""
    kernel_size: int = 2
    """Taps of a convolution."""
    residual_channels: int = 64
    """Channels from layer to layer."""
    gate_channels: int = 64
    """Channels of a gate."""
    skip_channels: int = 128
    """Channels in which what the layers have found is summed up."""
    head_channels: int = 128
    """Channels between that sum and the logits."""
    scale_sums: bool = True
    """Sums are divided by the root of how many they add up, so that depth does not make them large; the paper's are not."""
    weight_norm: bool = False
    """Kernels have a length of their own (weight normalisation)."""
    dropout: float = 0.0
    """Share of what a convolution reads that it does without, while training."""

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
                f"a kernel has at least 2 taps and a cycle at most 24 layers, got {self.kernel_size} and {self.dilation_cycle}"
            )

    @property
    def dilations(self) -> tuple[int, ...]:
        """How far apart the taps of each layer are."""
        return tuple(1 << i % self.dilation_cycle for i in range(self.layers))

    @property
    def receptive_field(self) -> int:
        """How many places, its own with them, can be seen from a place."""
        return (self.kernel_size - 1) * sum(self.dilations) + 1


class CausalConv(nn.Conv1d):
    """[T, B, I] to [T, B, O] by taps at a place and `apart`, 2 * apart, ... places before it.

    normed: w = g v / |v| (Salimans and Kingma 2016, arXiv:1602.07868, equation 2).
    """

    def __init__(
        self, inputs: int, outputs: int, kernel_size: int = 1, tap_distance: int = 1, weight_norm: bool = False
    ) -> None:
        super().__init__(inputs, outputs, kernel_size, dilation=tap_distance)
        self.tap_distance = tap_distance
        self.length = nn.Parameter(_norms(self.weight.detach())) if weight_norm else None

    def effective_weight(self) -> Tensor:
        """The weight [O, I, taps] that it convolves with."""
        return self.weight if self.length is None else self.weight * (self.length / _norms(self.weight))

    def forward(self, x: Tensor) -> Tensor:
        *earlier, here = self.effective_weight().unbind(2)
        out = linear(x, here, self.bias)
        for back, weight in enumerate(reversed(earlier), 1):
            seen = x[: -back * self.tap_distance]
            if len(seen):
                out = out + pad(linear(seen, weight), (0, 0, 0, 0, len(x) - len(seen), 0))
        return out


def _norms(weight: Tensor) -> Tensor:
    """Of each kernel, [O, 1, 1]."""
    return weight.flatten(1).norm(dim=1).view(-1, 1, 1)


class _WaveNetLayer(nn.Module):
    """One layer (figure 4): a gate of what is seen. One part of it goes on to the next layer, if there is one, and another is
    skipped to the end."""

    def __init__(self, c: WaveNetSizes, apart: int, last: bool) -> None:
        super().__init__()
        self.residual_channels = 0 if last else c.residual_channels
        self.dilated = CausalConv(c.residual_channels, 2 * c.gate_channels, c.kernel_size, apart, c.weight_norm)
        self.out = CausalConv(c.gate_channels, self.residual_channels + c.skip_channels, weight_norm=c.weight_norm)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """The gate [T, B, inner]. told [frames, B, 2 * inner]: added before it."""
        found: Tensor = self.dilated(x)
        if condition is not None:
            found = (found.unflatten(0, (len(condition), -1)) + condition.unsqueeze(1)).flatten(0, 1)
        a, b = found.chunk(2, 2)
        return a.tanh() * b.sigmoid()

    def residual_and_skip(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Weight [O, inner] and bias of what goes on, and of what is skipped."""
        weight, bias = self.out.effective_weight()[:, :, 0], self.out.bias
        assert bias is not None
        return (weight[: self.residual_channels], bias[: self.residual_channels]), (
            weight[self.residual_channels :],
            bias[self.residual_channels :],
        )


class WaveNetStack(nn.Module):
    """Features [T, B, width] to a sum of skips [T, B, skip] of what is at each place and before it.

    classes: of a label, 0 for none. told: features [B, told, frames] that it is told, each for T / frames places, 0 for none.
    """

    def __init__(self, config: WaveNetSizes, num_classes: int = 0, condition_channels: int = 0) -> None:
        super().__init__()
        self.config = config
        last, gates = config.layers - 1, config.layers * 2 * config.gate_channels
        self.layers = cast(
            Sequence[_WaveNetLayer],
            nn.ModuleList(_WaveNetLayer(config, apart, i == last) for i, apart in enumerate(config.dilations)),
        )
        self.label = nn.Embedding(num_classes, gates) if num_classes else None
        self.condition = nn.Conv1d(condition_channels, gates, 1, bias=False) if condition_channels else None
        if self.label is not None:
            nn.init.normal_(self.label.weight, std=0.1)

    def forward(
        self, x: Tensor, label: Tensor | None = None, condition: Tensor | None = None, random: Random | None = None
    ) -> Tensor:
        """random: for what is left out by chance while training."""
        gates, skips = [], []
        for layer, part in zip(self.layers, self._conditions(label, condition), strict=True):
            onward, skip = layer.residual_and_skip()
            gates.append(layer(_dropout(x, self.config.dropout, random), part))
            skips.append(skip)
            if layer.residual_channels:
                x = (x + linear(gates[-1], *onward)) * (math.sqrt(0.5) if self.config.scale_sums else 1.0)
        weights, biases = zip(*skips, strict=True)
        total: Tensor = linear(torch.cat(gates, 2), torch.cat(weights, 1), torch.stack(biases).sum(0))  # all skips at once
        return total * self.skip_scale

    @property
    def skip_scale(self) -> float:
        return math.sqrt(1 / self.config.layers) if self.config.scale_sums else 1.0

    def _conditions(self, label: Tensor | None, condition: Tensor | None) -> Sequence[Tensor | None]:
        """What each layer is told [1 or frames, B, 2 * inner]."""
        total: Tensor | None = None
        if self.label is not None:
            assert label is not None
            total = self.label(label).unsqueeze(0)
        if self.condition is not None:
            assert condition is not None
            features = linear(condition.movedim(2, 0), self.condition.weight[:, :, 0])  # as rows, like what they are added to
            total = features if total is None else total + features
        return [None] * len(self.layers) if total is None else total.chunk(len(self.layers), 2)


def _dropout(x: Tensor, rate: float, random: Random | None) -> Tensor:
    """Dropout of features [T, B, C], by numbers drawn sound after sound."""
    return dropout(x.transpose(0, 1), rate, random).transpose(0, 1)


class WaveNetNetwork(nn.Module):
    """What the law of each id is read off, from the ids at earlier times, and from earlier maps at its own.

    components: of a mixture of logistics over the ids, taken as numbers; 0: a logit for each id.
    ordered: near ids mean nearly the same, as levels of samples do, and begin with nearly the same vectors.
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
                table.weight.data = _waves(num_codes, table.weight.shape[1])
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
        """[B, maps, T, outputs] for ids [B, maps, T]."""
        before = self.embedded(ids[:, :, :-1].permute(1, 2, 0))
        x = torch.cat([self.start.expand(1, len(ids), -1).to(before.dtype), before])
        return self.read(self.stack(x, label, condition, random), ids)

    def read(self, skips: Tensor, ids: Tensor) -> Tensor:
        """The same, of skips [T, B, skip] and of the earlier maps of ids."""
        found = []
        for m, last in enumerate(self.last):
            found.append(last(relu(self.hidden(relu(skips)))).movedim(1, 0))
            if m + 1 < self.maps:
                skips = skips + self.earlier[m](ids[:, m].t())
        return torch.stack(found, 1)

    def embedded(self, ids: Tensor) -> Tensor:
        """Features [..., width] of ids [maps, ...]."""
        first, *others = (embed(its) for embed, its in zip(self.embed, ids, strict=True))
        for other in others:
            first = first + other
        return first

    def logits(self, out: Tensor) -> Tensor:
        """[..., K], of outputs [..., outputs]."""
        return logistic_levels(out.float(), self.num_codes) if self.mixture_components else out

    def log_prob(self, ids: Tensor, out: Tensor) -> Tensor:
        """log p [B] in nats of ids [B, maps, T], given the outputs for them."""
        with autocast_off(out):
            if self.mixture_components:
                return logistic_levels_log_prob(ids, out.float(), self.num_codes).flatten(1).sum(1)
            each = cross_entropy(out.float().flatten(0, -2), ids.flatten(), reduction="none")
            return -each.view(len(ids), -1).sum(1)


class _Embedding(nn.Module):
    """Features [..., width] of ids: a vector of its own for each, or, if they are numbers, a line that they lie on."""

    values: Tensor

    def __init__(self, vocabulary: int, width: int, numbers: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1 if numbers else vocabulary, width))
        self.bias = nn.Parameter(torch.randn(width)) if numbers else None
        self.register_buffer("values", torch.linspace(-1, 1, vocabulary if numbers else 0).unsqueeze(1), persistent=False)

    def rows(self) -> Tensor:
        """[K, width]."""
        return self.weight if self.bias is None else self.values * self.weight + self.bias

    def forward(self, ids: Tensor) -> Tensor:
        return embedding(ids, self.rows())


def _waves(vocabulary: int, width: int) -> Tensor:
    """Vectors [K, width] that change slowly with the id: sums of a constant, a line and sines, the higher the weaker, whose
    factors are drawn (as the features of Tancik et al. 2020, arXiv:2006.10739, are)."""
    value = torch.linspace(-1, 1, vocabulary)
    waves = [wave(math.pi * k * value) / math.sqrt(k) for k in (1, 2, 4, 8, 16) for wave in (torch.sin, torch.cos)]
    features = torch.stack([torch.full_like(value, 0.5), value, *waves], 1)
    return features @ torch.randn(features.shape[1], width) / 2


def _embeddings(count: int, vocabulary: int, width: int, numbers: bool) -> Sequence[_Embedding]:
    return cast(Sequence[_Embedding], nn.ModuleList(_Embedding(vocabulary, width, numbers) for _ in range(count)))
