"""WaveNets at one place after the other, at a cost that does not grow with how many have come before.

Paine et al. 2016, "Fast Wavenet Generation Algorithm", arXiv:1611.09482, with the layers' weights folded as described below.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anamorph.nn.dilated import DilatedConfig, DilatedNet, DilatedStack, Kernel

__all__ = ["DilatedWalk", "NetWalk"]

BLOCK = 16
"""Places for which what comes from far enough before is found at once; a power of two."""


class _Layer:
    """One layer, with what it has read.

    seen [size, width, n]: a ring of it. before [period, 2 * inner, n]: what the gates of the next places get from earlier ones
    and from what is told, found for `period` places at a time: as many as the taps are apart, BLOCK at most.
    """

    def __init__(self, weight: Tensor, apart: int, n: int, empty: Tensor) -> None:
        self.apart, self.empty = apart, empty[None, :, None]
        self.period = min(apart, BLOCK)
        self.size = (weight.shape[2] - 1) * apart + self.period
        *earlier, now = weight.unbind(2)
        self.now = now.contiguous()
        self.seen = self.empty.repeat(self.size, 1, n)
        self.slots = list(self.seen.unbind(0))
        self.windows = list(self.seen.split(self.period))
        self.before = now.new_zeros(self.period, len(now), n)
        self.gates = [(g, *g.chunk(2)) for g in self.before.unbind(0)]
        self.flat = n == 1  # places are rows of a matrix, and what they get is one product
        if self.flat:
            self.windows = [window.squeeze(2) for window in self.windows]
            self.before = self.before.squeeze(2)
        self.earlier = [w.t().contiguous() if self.flat else w.expand(self.period, -1, -1) for w in reversed(earlier)]
        self.told = self.before

    def tell(self, told: Tensor) -> None:
        """What the gates are told [1 or BLOCK, 2 * inner, n]."""
        self.told = told.squeeze(2) if self.flat else told

    def look_back(self, t: int) -> None:
        """Find what the gates of places t .. t + period - 1 get from earlier ones."""
        told = self.told if len(self.told) == 1 else self.told[t % BLOCK : t % BLOCK + self.period]
        for j, weight in enumerate(self.earlier, 1):
            seen = self.windows[(t - j * self.apart) // self.period % len(self.windows)]
            if self.flat:
                torch.addmm(told, seen, weight, out=self.before)
            else:
                torch.baddbmm(told, weight, seen, out=self.before)
            told = self.before


class DilatedWalk:
    """`DilatedStack` at one place after the other: features [width, n] to a sum of skips [skip, n].

    What is folded: biases of the residual path are left out, and given to the gates and to what lies before the beginning; the
    roots by which sums are divided are taken into the weights; tanh(a) = 2 sigmoid(2a) - 1, so that gates are one call, and
    come with the other sign; all layers' skips are one product of matrices at the end. Four calls per layer are left.
    """

    @torch.inference_mode()
    def __init__(self, stack: DilatedStack, n: int, label: Tensor | None, told: Tensor | None, places: int) -> None:
        c = self.config = stack.config
        self.place = 0
        self.doubled = _doubled(c).to(stack.layers[0].dilated.weight)
        self.found = self.doubled.new_zeros(c.layers * c.inner, n)
        bias, residual = self._fold(stack, n)
        following = [*self.layers[1:], self.layers[0]]
        parts = zip(self.layers, self.found.split(c.inner), residual, following, strict=True)
        self.plan = [(a, a.period, a.now, a.gates, part, r, b.slots, b.size) for a, part, r, b in parts]
        outs = [(layer.out.made()[layer.kept :, :, 0], layer.out.bias) for layer in stack.layers]
        self.skip = -torch.cat([weight for weight, _ in outs], 1) * stack.skip_scale
        self.skip_bias = torch.stack([b[-c.skip :, None] for _, b in outs if b is not None]).sum(0) * stack.skip_scale
        self._tell(stack, bias, label, told, places)

    def _fold(self, stack: DilatedStack, n: int) -> tuple[Tensor, list[Tensor]]:
        """Make the layers; all gates' biases, and the weights of the residual path."""
        scale, offset = 1.0, self.doubled.new_zeros(self.config.width)
        biases, residual = [], []
        self.layers: list[_Layer] = []
        for layer in stack.layers:
            weight, out = layer.dilated.made() * (self.doubled[:, None, None] / scale), layer.out.made()[: layer.kept, :, 0]
            assert layer.dilated.bias is not None
            assert layer.out.bias is not None
            biases.append(layer.dilated.bias * self.doubled + weight.sum(2) @ offset)
            self.layers.append(_Layer(weight, layer.dilated.dilation[0], n, -offset))
            residual.append((-scale * out).contiguous())
            if layer.kept:
                offset = offset + scale * layer.out.bias[: layer.kept]
                scale *= math.sqrt(2) if self.config.scaled else 1.0
        return torch.cat(biases), residual

    def _tell(self, stack: DilatedStack, bias: Tensor, label: Tensor | None, told: Tensor | None, places: int) -> None:
        """Take up what the gates are told: always the same, or frame by frame."""
        doubled = self.doubled.repeat(self.config.layers)
        always = bias.unsqueeze(1).expand(-1, self.found.shape[1])
        if stack.label is not None:
            assert label is not None
            always = always + (stack.label(label) * doubled).t()
        self.always = always.unsqueeze(0)  # [1, layers * 2 * inner, n]
        self.frames: Tensor | None = None
        if stack.told is not None:
            assert told is not None
            self.frames = told.permute(2, 1, 0).to(self.always.dtype).contiguous()  # [frames, F, n]
            self.places_per_frame = places // len(self.frames)
            self.told = stack.told.weight[:, :, 0] * doubled.unsqueeze(1)
        self._hand_out(self.always)

    def _hand_out(self, told: Tensor) -> None:
        for layer, part in zip(self.layers, told.chunk(len(self.layers), 1), strict=True):
            layer.tell(part.contiguous())

    def _listen(self, frames: Tensor, t: int) -> None:
        """Take up what is told of the next block of places, or of a frame of whole blocks."""
        each = self.places_per_frame
        if each % BLOCK == 0:
            if t % each == 0:
                self._hand_out(self.always + self.told @ frames[t // each : t // each + 1])
        else:
            places = torch.arange(t, t + BLOCK, device=frames.device) // each
            which, where = places.clamp(max=len(frames) - 1).unique(return_inverse=True)
            self._hand_out((self.always + self.told @ frames[which])[where])

    @torch.inference_mode()
    def restart(self) -> None:
        """Forget all that was read."""
        self.place = 0
        for layer in self.layers:
            layer.seen.copy_(layer.empty)

    @torch.inference_mode()
    def step(self, x: Tensor) -> Tensor:
        """Sums of skips [skip, n] at the next place, of its features [width, n]."""
        t = self.place
        self.place = t + 1
        if t % BLOCK == 0 and self.frames is not None:
            self._listen(self.frames, t)
        addmm, addcmul, last = torch.addmm, torch.addcmul, self.layers[-1]
        first = self.layers[0]
        x = first.slots[t % first.size].copy_(x)
        for layer, period, now, gates, part, residual, slots, size in self.plan:
            c = t % period
            if c == 0:
                layer.look_back(t)
            gate, a, b = gates[c]
            gate.addmm_(now, x).sigmoid_()
            addcmul(b, a, b, value=-2, out=part)
            if layer is not last:
                x = addmm(x, residual, part, out=slots[t % size])
        return addmm(self.skip_bias, self.skip, self.found)


def _doubled(c: DilatedConfig) -> Tensor:
    """By what the gates' inputs are multiplied, so that both halves are sigmoids."""
    return torch.cat([torch.full((c.inner,), 2.0), torch.ones(c.inner)])


class NetWalk:
    """`DilatedNet` at one place after the other, as `Walk` says; places are the columns of one row."""

    def __init__(self, net: DilatedNet, n: int, places: int, label: Tensor | None, told: Tensor | None) -> None:
        self.net, self.place = net, -1
        self.stack = DilatedWalk(net.stack, n, label, told, places)
        self.tables = [embed.rows() for embed in net.embed]
        self.earlier = [table.rows() for table in net.earlier]
        self.hidden, *self.last = [_product(layer) for layer in (net.hidden, *net.last)]
        self.start = net.start.unsqueeze(1).expand(-1, n)
        self.x, self.skips = self.start, self.start

    def row(self, r: int) -> None:
        self.stack.restart()
        self.x, self.place = self.start, -1

    def logits(self, r: int, c: int, known: Tensor) -> Tensor:
        if c != self.place:
            self.skips, self.place = self.stack.step(self.x), c
        skips, out = self.skips, []
        for m, (weight, bias) in enumerate(self.last):
            hidden = torch.addmm(self.hidden[1], self.hidden[0], skips.relu()).relu_()
            out.append(torch.addmm(bias, weight, hidden).t())
            if m + 1 < len(self.last):
                skips = skips + self.earlier[m].index_select(0, known[:, m]).t()
        return self.net.logits(torch.stack(out, 1) if len(out) > 1 else out[0].unsqueeze(1))

    def put(self, r: int, c: int, ids: Tensor) -> None:
        first, *others = self.tables
        x = first.index_select(0, ids[:, 0])
        for m, table in enumerate(others, 1):
            x = x + table.index_select(0, ids[:, m])
        self.x = x.t()


def _product(layer: Kernel) -> tuple[Tensor, Tensor]:
    """Weight [O, I] and bias [O, 1] of a kernel of one tap."""
    assert layer.bias is not None
    return layer.made()[:, :, 0].contiguous(), layer.bias.unsqueeze(1)
