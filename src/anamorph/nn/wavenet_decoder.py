"""WaveNets at one place after the other, at a cost that does not grow with how many have come before.

Paine et al. 2016, "Fast Wavenet Generation Algorithm", arXiv:1611.09482, with the layers' weights folded as described below.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anamorph.nn.wavenet_layers import CausalConv, WaveNetNetwork, WaveNetSizes, WaveNetStack

__all__ = ["StackDecoder", "WaveNetDecoder"]

BLOCK = 16
"""Places for which what comes from far enough before is found at once; a power of two."""


class _LayerState:
    """One layer, with what it has read.

    seen [size, n, width]: a ring of it. before [period, n, 2 * inner]: what the gates of the next places get from earlier ones
    and from what is told, found for `period` places at a time: as many as the taps are apart, BLOCK at most. Both are also
    matrices, whose rows are the n at one place after the n at another, so that what they get is one product.
    """

    def __init__(self, weight: Tensor, apart: int, n: int, empty: Tensor) -> None:
        self.apart, self.empty, self.n = apart, empty, n
        self.period = min(apart, BLOCK)
        self.size = (weight.shape[2] - 1) * apart + self.period
        *earlier, self.now = (w.t().contiguous() for w in weight.unbind(2))
        self.earlier = earlier[::-1]
        self.seen = self.empty.repeat(self.size, n, 1)
        self.slots = list(self.seen.unbind(0))
        self.windows = [window.flatten(0, 1) for window in self.seen.split(self.period)]
        before = self.seen.new_zeros(self.period, n, len(weight))
        self.before = before.flatten(0, 1)
        self.gates = [(g, *g.chunk(2, 1)) for g in before.unbind(0)]
        self.rows, self.condition, self.changes = len(self.before), self.before, False

    def set_condition(self, condition: Tensor) -> None:
        """What the gates are told [1 or BLOCK, 1 or n, 2 * inner]."""
        if len(condition) == 1 and condition.shape[1] > 1:
            condition = condition.expand(self.period, -1, -1)
        self.condition = condition.flatten(0, 1).contiguous()
        self.changes = len(self.condition) > self.rows

    def look_back(self, t: int) -> None:
        """Find what the gates of places t .. t + period - 1 get from earlier ones."""
        told = self.condition
        if self.changes:
            first = t % BLOCK * self.n
            told = told[first : first + self.rows]
        for j, weight in enumerate(self.earlier, 1):
            seen = self.windows[(t - j * self.apart) // self.period % len(self.windows)]
            told = torch.addmm(told, seen, weight, out=self.before)


class StackDecoder:
    """`DilatedStack` at one place after the other: features [n, width] to a sum of skips [n, skip].

    What is folded: biases of the residual path are left out, and given to the gates and to what lies before the beginning; the
    roots by which sums are divided are taken into the weights; tanh(a) = 2 sigmoid(2a) - 1, so that gates are one call, and
    come with the other sign; all layers' skips are one product of matrices at the end. Four calls per layer are left.
    """

    @torch.inference_mode()
    def __init__(self, stack: WaveNetStack, n: int, label: Tensor | None, condition: Tensor | None, places: int) -> None:
        c = self.config = stack.config
        self.place = 0
        self.doubled = _doubled(c).to(stack.layers[0].dilated.weight)
        self.found = self.doubled.new_zeros(n, c.layers * c.gate_channels)
        bias, residual = self._fold(stack, n)
        following = [*self.layers[1:], self.layers[0]]
        parts = zip(self.layers, self.found.split(c.gate_channels, 1), residual, following, strict=True)
        self.plan = [(a, a.period, a.now, a.gates, part, r, b.slots, b.size) for a, part, r, b in parts]
        outs = [(layer.out.effective_weight()[layer.residual_channels :, :, 0], layer.out.bias) for layer in stack.layers]
        self.skip = -torch.cat([weight.t() for weight, _ in outs]) * stack.skip_scale
        self.skip_bias = torch.stack([b[-c.skip_channels :] for _, b in outs if b is not None]).sum(0) * stack.skip_scale
        self._set_condition(stack, bias, label, condition, places)

    def _fold(self, stack: WaveNetStack, n: int) -> tuple[Tensor, list[Tensor]]:
        """Make the layers; all gates' biases, and the weights of the residual path."""
        scale, offset = 1.0, self.doubled.new_zeros(self.config.residual_channels)
        biases, residual = [], []
        self.layers: list[_LayerState] = []
        for layer in stack.layers:
            weight, out = (
                layer.dilated.effective_weight() * (self.doubled[:, None, None] / scale),
                layer.out.effective_weight()[: layer.residual_channels, :, 0],
            )
            assert layer.dilated.bias is not None
            assert layer.out.bias is not None
            biases.append(layer.dilated.bias * self.doubled + weight.sum(2) @ offset)
            self.layers.append(_LayerState(weight, layer.dilated.dilation[0], n, -offset))
            residual.append((-scale * out).t().contiguous())
            if layer.residual_channels:
                offset = offset + scale * layer.out.bias[: layer.residual_channels]
                scale *= math.sqrt(2) if self.config.scale_sums else 1.0
        return torch.cat(biases), residual

    def _set_condition(
        self, stack: WaveNetStack, bias: Tensor, label: Tensor | None, condition: Tensor | None, places: int
    ) -> None:
        """Take up what the gates are told: always the same, or frame by frame."""
        doubled = self.doubled.repeat(self.config.layers)
        self.always = bias[None, None]  # [1, 1 or n, layers * 2 * inner]
        if stack.label is not None:
            assert label is not None
            self.always = self.always + stack.label(label) * doubled
        self.frames: Tensor | None = None
        if stack.condition is not None:
            assert condition is not None
            self.frames = condition.permute(2, 0, 1).to(self.always.dtype).contiguous()  # [frames, n, F]
            self.places_per_frame = places // len(self.frames)
            self.condition_weight = (stack.condition.weight[:, :, 0] * doubled.unsqueeze(1)).t().contiguous()
        self._distribute(self.always)

    def _distribute(self, condition: Tensor) -> None:
        for layer, part in zip(self.layers, condition.chunk(len(self.layers), 2), strict=True):
            layer.set_condition(part)

    def _update_condition(self, frames: Tensor, t: int) -> None:
        """Take up what is told of the next block of places, or of a frame of whole blocks."""
        each = self.places_per_frame
        if each % BLOCK == 0:
            if t % each == 0:
                self._distribute(self.always + frames[t // each : t // each + 1] @ self.condition_weight)
        else:
            places = torch.arange(t, t + BLOCK, device=frames.device) // each
            which, where = places.clamp(max=len(frames) - 1).unique(return_inverse=True)
            self._distribute((self.always + frames[which] @ self.condition_weight)[where])

    @torch.inference_mode()
    def restart(self) -> None:
        """Forget all that was read."""
        self.place = 0
        for layer in self.layers:
            layer.seen.copy_(layer.empty)

    @torch.inference_mode()
    def step(self, x: Tensor) -> Tensor:
        """Sums of skips [n, skip] at the next place, of its features [n, width]."""
        t = self.place
        self.place = t + 1
        if t % BLOCK == 0 and self.frames is not None:
            self._update_condition(self.frames, t)
        addmm, addcmul, last = torch.addmm, torch.addcmul, self.layers[-1]
        first = self.layers[0]
        x = first.slots[t % first.size].copy_(x)
        for layer, period, now, gates, part, residual, slots, size in self.plan:
            c = t % period
            if c == 0:
                layer.look_back(t)
            gate, a, b = gates[c]
            gate.addmm_(x, now).sigmoid_()
            addcmul(b, a, b, value=-2, out=part)
            if layer is not last:
                x = addmm(x, part, residual, out=slots[t % size])
        return addmm(self.skip_bias, self.found, self.skip)


def _doubled(c: WaveNetSizes) -> Tensor:
    """By what the gates' inputs are multiplied, so that both halves are sigmoids."""
    return torch.cat([torch.full((c.gate_channels,), 2.0), torch.ones(c.gate_channels)])


class WaveNetDecoder:
    """`DilatedNet` at one place after the other, as `Walk` says; places are the columns of one row."""

    def __init__(self, net: WaveNetNetwork, n: int, places: int, label: Tensor | None, condition: Tensor | None) -> None:
        self.net, self.place = net, -1
        self.stack = StackDecoder(net.stack, n, label, condition, places)
        self.tables = [embed.rows() for embed in net.embed]
        self.earlier = [table.rows() for table in net.earlier]
        self.hidden, *self.last = [_product(layer) for layer in (net.hidden, *net.last)]
        self.start = net.start.expand(n, -1)
        self.x, self.skips = self.start, self.start

    def row(self, r: int) -> None:
        self.stack.restart()
        self.x, self.place = self.start, -1

    def logits(self, r: int, c: int, known: Tensor) -> Tensor:
        if c != self.place:
            self.skips, self.place = self.stack.step(self.x), c
        skips, out = self.skips, []
        for m, (weight, bias) in enumerate(self.last):
            hidden = torch.addmm(self.hidden[1], skips.relu(), self.hidden[0]).relu_()
            out.append(torch.addmm(bias, hidden, weight))
            if m + 1 < len(self.last):
                skips = skips + self.earlier[m].index_select(0, known[:, m])
        return self.net.logits(torch.stack(out, 1) if len(out) > 1 else out[0].unsqueeze(1))

    def put(self, r: int, c: int, ids: Tensor) -> None:
        first, *others = self.tables
        x = first.index_select(0, ids[:, 0])
        for m, table in enumerate(others, 1):
            x = x + table.index_select(0, ids[:, m])
        self.x = x


def _product(layer: CausalConv) -> tuple[Tensor, Tensor]:
    """Weight [I, O] and bias [O] of a kernel of one tap."""
    assert layer.bias is not None
    return layer.effective_weight()[:, :, 0].t().contiguous(), layer.bias
