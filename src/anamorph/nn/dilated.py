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
from anamorph.core.precision import full_precision
from anamorph.core.random import Random
from anamorph.losses.likelihood import logistic_levels, logistic_levels_log_prob
from anamorph.nn.masked import dropout

__all__ = ["DilatedConfig", "DilatedNet", "DilatedStack", "Kernel"]


@dataclass(frozen=True)
class DilatedConfig:
    """Sizes of a WaveNet."""

    layers: int = 20
    """Of gated convolutions."""
    cycle: int = 10
    """Layers until the distance between taps, which doubles from layer to layer, is one again."""
    kernel: int = 2
    """Taps of a convolution."""
    width: int = 64
    """Channels from layer to layer."""
    inner: int = 64
    """Channels of a gate."""
    skip: int = 128
    """Channels in which what the layers have found is summed up."""
    head: int = 128
    """Channels between that sum and the logits."""
    scaled: bool = True
    """Sums are divided by the root of how many they add up, so that depth does not make them large; the paper's are not."""
    normed: bool = False
    """Kernels have a length of their own (weight normalisation)."""
    dropout: float = 0.0
    """Share of what a convolution reads that it does without, while training."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "layers", "cycle", "width", "inner", "skip", "head")
        check(self, "in [0, 1)", "dropout")
        if self.kernel < 2 or self.cycle > 24:
            raise UserError(f"a kernel has at least 2 taps and a cycle at most 24 layers, got {self.kernel} and {self.cycle}")

    @property
    def dilations(self) -> tuple[int, ...]:
        """How far apart the taps of each layer are."""
        return tuple(1 << i % self.cycle for i in range(self.layers))

    @property
    def reach(self) -> int:
        """How many places, its own with them, can be seen from a place."""
        return (self.kernel - 1) * sum(self.dilations) + 1


class Kernel(nn.Conv1d):
    """[T, B, I] to [T, B, O] by taps at a place and `apart`, 2 * apart, ... places before it.

    normed: w = g v / |v| (Salimans and Kingma 2016, arXiv:1602.07868, equation 2).
    """

    def __init__(self, inputs: int, outputs: int, taps: int = 1, apart: int = 1, normed: bool = False) -> None:
        super().__init__(inputs, outputs, taps, dilation=apart)
        self.apart = apart
        self.length = nn.Parameter(_norms(self.weight.detach())) if normed else None

    def made(self) -> Tensor:
        """The weight [O, I, taps] that it convolves with."""
        return self.weight if self.length is None else self.weight * (self.length / _norms(self.weight))

    def forward(self, x: Tensor) -> Tensor:
        *earlier, here = self.made().unbind(2)
        out = linear(x, here, self.bias)
        for back, weight in enumerate(reversed(earlier), 1):
            seen = x[: -back * self.apart]
            if len(seen):
                out = out + pad(linear(seen, weight), (0, 0, 0, 0, len(x) - len(seen), 0))
        return out


def _norms(weight: Tensor) -> Tensor:
    """Of each kernel, [O, 1, 1]."""
    return weight.flatten(1).norm(dim=1).view(-1, 1, 1)


class _DilatedLayer(nn.Module):
    """One layer (figure 4): a gate of what is seen. One part of it goes on to the next layer, if there is one, and another is
    skipped to the end."""

    def __init__(self, c: DilatedConfig, apart: int, last: bool) -> None:
        super().__init__()
        self.kept = 0 if last else c.width
        self.dilated = Kernel(c.width, 2 * c.inner, c.kernel, apart, c.normed)
        self.out = Kernel(c.inner, self.kept + c.skip, normed=c.normed)

    def forward(self, x: Tensor, told: Tensor | None) -> Tensor:
        """The gate [T, B, inner]. told [frames, B, 2 * inner]: added before it."""
        found: Tensor = self.dilated(x)
        if told is not None:
            found = (found.unflatten(0, (len(told), -1)) + told.unsqueeze(1)).flatten(0, 1)
        a, b = found.chunk(2, 2)
        return a.tanh() * b.sigmoid()

    def parts(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Weight [O, inner] and bias of what goes on, and of what is skipped."""
        weight, bias = self.out.made()[:, :, 0], self.out.bias
        assert bias is not None
        return (weight[: self.kept], bias[: self.kept]), (weight[self.kept :], bias[self.kept :])


class DilatedStack(nn.Module):
    """Features [T, B, width] to a sum of skips [T, B, skip] of what is at each place and before it.

    classes: of a label, 0 for none. told: features [B, told, frames] that it is told, each for T / frames places, 0 for none.
    """

    def __init__(self, config: DilatedConfig, classes: int = 0, told: int = 0) -> None:
        super().__init__()
        self.config = config
        last, gates = config.layers - 1, config.layers * 2 * config.inner
        self.layers = cast(
            Sequence[_DilatedLayer],
            nn.ModuleList(_DilatedLayer(config, apart, i == last) for i, apart in enumerate(config.dilations)),
        )
        self.label = nn.Embedding(classes, gates) if classes else None
        self.told = nn.Conv1d(told, gates, 1, bias=False) if told else None
        if self.label is not None:
            nn.init.normal_(self.label.weight, std=0.1)

    def forward(
        self, x: Tensor, label: Tensor | None = None, told: Tensor | None = None, random: Random | None = None
    ) -> Tensor:
        """random: for what is left out by chance while training."""
        gates, skips = [], []
        for layer, part in zip(self.layers, self._told(label, told), strict=True):
            onward, skip = layer.parts()
            gates.append(layer(_without_some(x, self.config.dropout, random), part))
            skips.append(skip)
            if layer.kept:
                x = (x + linear(gates[-1], *onward)) * (math.sqrt(0.5) if self.config.scaled else 1.0)
        weights, biases = zip(*skips, strict=True)
        total: Tensor = linear(torch.cat(gates, 2), torch.cat(weights, 1), torch.stack(biases).sum(0))  # all skips at once
        return total * self.skip_scale

    @property
    def skip_scale(self) -> float:
        return math.sqrt(1 / self.config.layers) if self.config.scaled else 1.0

    def _told(self, label: Tensor | None, told: Tensor | None) -> Sequence[Tensor | None]:
        """What each layer is told [1 or frames, B, 2 * inner]."""
        total: Tensor | None = None
        if self.label is not None:
            assert label is not None
            total = self.label(label).unsqueeze(0)
        if self.told is not None:
            assert told is not None
            features = linear(told.movedim(2, 0), self.told.weight[:, :, 0])  # as rows, like what they are added to
            total = features if total is None else total + features
        return [None] * len(self.layers) if total is None else total.chunk(len(self.layers), 2)


def _without_some(x: Tensor, rate: float, random: Random | None) -> Tensor:
    """Dropout of features [T, B, C], by numbers drawn sound after sound."""
    return dropout(x.transpose(0, 1), rate, random).transpose(0, 1)


class DilatedNet(nn.Module):
    """What the law of each id is read off, from the ids at earlier times, and from earlier maps at its own.

    components: of a mixture of logistics over the ids, taken as numbers; 0: a logit for each id.
    ordered: near ids mean nearly the same, as levels of samples do, and begin with nearly the same vectors.
    """

    def __init__(
        self,
        maps: int,
        vocabulary: int,
        config: DilatedConfig,
        *,
        classes: int = 0,
        told: int = 0,
        components: int = 0,
        ordered: bool = False,
    ) -> None:
        super().__init__()
        c = config
        self.maps, self.vocabulary, self.components = maps, vocabulary, components
        self.embed = _tables(maps, vocabulary, c.width, bool(components))
        self.earlier = _tables(maps - 1, vocabulary, c.skip, bool(components))
        if ordered and not components:
            for table in (*self.embed, *self.earlier):
                table.weight.data = _waves(vocabulary, table.weight.shape[1])
        self.start = nn.Parameter(torch.zeros(c.width))
        self.stack = DilatedStack(c, classes, told)
        self.hidden = Kernel(c.skip, c.head, normed=c.normed)
        outputs = 3 * components if components else vocabulary
        self.last = cast(Sequence[Kernel], nn.ModuleList(Kernel(c.head, outputs, normed=c.normed) for _ in range(maps)))

    def forward(
        self, ids: Tensor, label: Tensor | None = None, told: Tensor | None = None, random: Random | None = None
    ) -> Tensor:
        """[B, maps, T, outputs] for ids [B, maps, T]."""
        before = self.embedded(ids[:, :, :-1].permute(1, 2, 0))
        x = torch.cat([self.start.expand(1, len(ids), -1).to(before.dtype), before])
        return self.read(self.stack(x, label, told, random), ids)

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
        return logistic_levels(out.float(), self.vocabulary) if self.components else out

    def log_prob(self, ids: Tensor, out: Tensor) -> Tensor:
        """log p [B] in nats of ids [B, maps, T], given the outputs for them."""
        with full_precision(out):
            if self.components:
                return logistic_levels_log_prob(ids, out.float(), self.vocabulary).flatten(1).sum(1)
            each = cross_entropy(out.float().flatten(0, -2), ids.flatten(), reduction="none")
            return -each.view(len(ids), -1).sum(1)


class _Table(nn.Module):
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


def _tables(count: int, vocabulary: int, width: int, numbers: bool) -> Sequence[_Table]:
    return cast(Sequence[_Table], nn.ModuleList(_Table(vocabulary, width, numbers) for _ in range(count)))
