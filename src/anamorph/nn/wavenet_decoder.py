"""Incremental decoding of WaveNets: the cost of a step does not grow with the number of steps before it.

Paine et al. 2016, "Fast Wavenet Generation Algorithm", arXiv:1611.09482, with layers' weights folded as described below.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anamorph.nn.wavenet_layers import CausalConv, WaveNetNetwork, WaveNetSizes, WaveNetStack

__all__ = ["StackDecoder", "WaveNetDecoder"]

BLOCK = 16
"""Steps whose contributions from the distant past are computed at once; a power of two."""


class _LayerState:
    """The state of one layer.

    `history` [size, n, channels] is a ring buffer of its inputs. `partial` [period, n, 2 * gate channels] holds what earlier
    inputs and the condition contribute to the gates of the next steps. It is computed for `period` steps at a time, which is
    the dilation, but at most BLOCK. Both are also viewed as matrices whose rows are the n examples of one step after those of
    another, so that a contribution is one matrix product.

    Args:
        weight: kernel [2 * gate channels, channels, taps].
        dilation: distance between taps.
        n: number of examples.
        initial: input before the first step [channels].
    """

    def __init__(self, weight: Tensor, dilation: int, n: int, initial: Tensor) -> None:
        self.dilation, self.initial, self.n = dilation, initial, n
        self.period = min(dilation, BLOCK)
        self.size = (weight.shape[2] - 1) * dilation + self.period
        *earlier, self.current = (w.t().contiguous() for w in weight.unbind(2))
        self.earlier = earlier[::-1]
        self.history = self.initial.repeat(self.size, n, 1)
        self.slots = list(self.history.unbind(0))
        self.windows = [window.flatten(0, 1) for window in self.history.split(self.period)]
        partial = self.history.new_zeros(self.period, n, len(weight))
        self.partial = partial.flatten(0, 1)
        self.gates = [(g, *g.chunk(2, 1)) for g in partial.unbind(0)]
        self.rows, self.condition, self.condition_varies = len(self.partial), self.partial, False

    def set_condition(self, condition: Tensor) -> None:
        """Set what is added before the gates [1 or BLOCK, 1 or n, 2 * gate channels]."""
        if len(condition) == 1 and condition.shape[1] > 1:
            condition = condition.expand(self.period, -1, -1)
        self.condition = condition.flatten(0, 1).contiguous()
        self.condition_varies = len(self.condition) > self.rows

    def update_partial(self, t: int) -> None:
        """Compute what earlier inputs contribute to the gates of steps t .. t + period - 1."""
        total = self.condition
        if self.condition_varies:
            first = t % BLOCK * self.n
            total = total[first : first + self.rows]
        for taps_back, weight in enumerate(self.earlier, 1):
            window = self.windows[(t - taps_back * self.dilation) // self.period % len(self.windows)]
            total = torch.addmm(total, window, weight, out=self.partial)


class StackDecoder:
    """Evaluates a `WaveNetStack` step by step: features [n, residual channels] to the sum of the skips [n, skip channels].

    Weights are folded so that four calls per layer are left. Biases of the residual path move into the gates' biases and the
    initial state. Scales of sums move into the weights. As tanh(a) = 2 sigmoid(2a) - 1, both halves of a gate are one sigmoid;
    its output has the opposite sign. The skips of all layers are one matrix product at the end.

    Args:
        stack: evaluated.
        n: number of examples.
        label: class of each example [n], if the stack has a label.
        condition: features [n, C, frames] on which it is conditioned, if it is.
        length: number of steps, over which the frames are spread.
    """

    @torch.inference_mode()
    def __init__(self, stack: WaveNetStack, n: int, label: Tensor | None, condition: Tensor | None, length: int) -> None:
        c = self.config = stack.config
        self.step_count = 0
        self.gate_scale = _gate_scale(c).to(stack.layers[0].dilated.weight)
        self.gated = self.gate_scale.new_zeros(n, c.layers * c.gate_channels)
        bias, residual = self._fold(stack, n)
        following = [*self.layers[1:], self.layers[0]]
        parts = zip(self.layers, self.gated.split(c.gate_channels, 1), residual, following, strict=True)
        self.plan = [(a, a.period, a.current, a.gates, part, r, b.slots, b.size) for a, part, r, b in parts]
        outs = [(layer.out.effective_weight()[layer.residual_channels :, :, 0], layer.out.bias) for layer in stack.layers]
        self.skip = -torch.cat([weight.t() for weight, _ in outs]) * stack.skip_scale
        self.skip_bias = torch.stack([b[-c.skip_channels :] for _, b in outs if b is not None]).sum(0) * stack.skip_scale
        self._set_condition(stack, bias, label, condition, length)

    def _fold(self, stack: WaveNetStack, n: int) -> tuple[Tensor, list[Tensor]]:
        """Create the layers' states; return all gates' biases, and the weights of the residual path."""
        scale, offset = 1.0, self.gate_scale.new_zeros(self.config.residual_channels)
        biases, residual = [], []
        self.layers: list[_LayerState] = []
        for layer in stack.layers:
            weight, out = (
                layer.dilated.effective_weight() * (self.gate_scale[:, None, None] / scale),
                layer.out.effective_weight()[: layer.residual_channels, :, 0],
            )
            assert layer.dilated.bias is not None
            assert layer.out.bias is not None
            biases.append(layer.dilated.bias * self.gate_scale + weight.sum(2) @ offset)
            self.layers.append(_LayerState(weight, layer.dilated.dilation[0], n, -offset))
            residual.append((-scale * out).t().contiguous())
            if layer.residual_channels:
                offset = offset + scale * layer.out.bias[: layer.residual_channels]
                scale *= math.sqrt(2) if self.config.scale_sums else 1.0
        return torch.cat(biases), residual

    def _set_condition(
        self, stack: WaveNetStack, bias: Tensor, label: Tensor | None, condition: Tensor | None, length: int
    ) -> None:
        """Set what is added before the gates: a constant, and features frame by frame."""
        gate_scale = self.gate_scale.repeat(self.config.layers)
        self.constant = bias[None, None]  # [1, 1 or n, layers * 2 * gate channels]
        if stack.label is not None:
            assert label is not None
            self.constant = self.constant + stack.label(label) * gate_scale
        self.frames: Tensor | None = None
        if stack.condition is not None:
            assert condition is not None
            self.frames = condition.permute(2, 0, 1).to(self.constant.dtype).contiguous()  # [frames, n, F]
            self.steps_per_frame = length // len(self.frames)
            self.condition_weight = (stack.condition.weight[:, :, 0] * gate_scale.unsqueeze(1)).t().contiguous()
        self._distribute(self.constant)

    def _distribute(self, condition: Tensor) -> None:
        for layer, part in zip(self.layers, condition.chunk(len(self.layers), 2), strict=True):
            layer.set_condition(part)

    def _update_condition(self, frames: Tensor, t: int) -> None:
        """Set the condition of the next block of steps, or of a frame that is a multiple of a block."""
        each = self.steps_per_frame
        if each % BLOCK == 0:
            if t % each == 0:
                self._distribute(self.constant + frames[t // each : t // each + 1] @ self.condition_weight)
        else:
            frame = torch.arange(t, t + BLOCK, device=frames.device) // each
            needed, index = frame.clamp(max=len(frames) - 1).unique(return_inverse=True)
            self._distribute((self.constant + frames[needed] @ self.condition_weight)[index])

    @torch.inference_mode()
    def restart(self) -> None:
        """Return to the state before the first step."""
        self.step_count = 0
        for layer in self.layers:
            layer.history.copy_(layer.initial)

    @torch.inference_mode()
    def step(self, x: Tensor) -> Tensor:
        """Return the sum of the skips [n, skip channels] at the next step, for its features [n, residual channels]."""
        t = self.step_count
        self.step_count = t + 1
        if t % BLOCK == 0 and self.frames is not None:
            self._update_condition(self.frames, t)
        addmm, addcmul, last = torch.addmm, torch.addcmul, self.layers[-1]
        first = self.layers[0]
        x = first.slots[t % first.size].copy_(x)
        for layer, period, current, gates, part, residual, slots, size in self.plan:
            phase = t % period
            if phase == 0:
                layer.update_partial(t)
            gate, a, b = gates[phase]
            gate.addmm_(x, current).sigmoid_()
            addcmul(b, a, b, value=-2, out=part)
            if layer is not last:
                x = addmm(x, part, residual, out=slots[t % size])
        return addmm(self.skip_bias, self.gated, self.skip)


def _gate_scale(c: WaveNetSizes) -> Tensor:
    """Return the factors on the gates' inputs with which both halves are sigmoids."""
    return torch.cat([torch.full((c.gate_channels,), 2.0), torch.ones(c.gate_channels)])


class WaveNetDecoder:
    """Evaluates a `WaveNetNetwork` step by step, as an `IncrementalDecoder`; steps are the columns of one row.

    Args as of `StackDecoder`.
    """

    def __init__(self, net: WaveNetNetwork, n: int, length: int, label: Tensor | None, condition: Tensor | None) -> None:
        self.net, self.column = net, -1
        self.stack = StackDecoder(net.stack, n, label, condition, length)
        self.tables = [embed.rows() for embed in net.embed]
        self.earlier = [table.rows() for table in net.earlier]
        self.hidden, *self.last = [_product(layer) for layer in (net.hidden, *net.last)]
        self.start = net.start.expand(n, -1)
        self.x, self.skips = self.start, self.start

    def row(self, r: int) -> None:
        self.stack.restart()
        self.x, self.column = self.start, -1

    def logits(self, r: int, c: int, known: Tensor) -> Tensor:
        if c != self.column:
            self.skips, self.column = self.stack.step(self.x), c
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
    """Return weight [I, O] and bias [O] of a kernel of one tap."""
    assert layer.bias is not None
    return layer.effective_weight()[:, :, 0].t().contiguous(), layer.bias
