"""Gated masked convolutions in two stacks, which together see every earlier position in raster order, and no later one.

van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders", arXiv:1606.05328, section 2 and figure 2.
The vertical stack sees the rows above. The horizontal stack sees its own row to the left, and the vertical stack's output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, relu

from anamorph.core.errors import UserError
from anamorph.core.random import Random
from anamorph.nn.incremental import IncrementalDecoder
from anamorph.nn.masked import MaskedConv, channel_mask_at_centre, dropout, mask_of

__all__ = [
    "GatedLayer",
    "GatedNet",
    "GatedStacks",
    "GatedStacksDecoder",
    "channel_mask",
    "check_channel_groups",
    "gate",
    "rows_above",
]


def channel_mask(outputs: int, inputs: int, channels: int) -> Tensor | None:
    """Return the mask [outputs, inputs, 1, 1] of a 1x1 convolution in which a channel sees itself; None for one channel."""
    return channel_mask_at_centre(outputs, inputs, channels, "B").float()[:, :, None, None] if channels > 1 else None


def check_channel_groups(channels: int, width: int, head: int) -> None:
    """Check that features can be divided among the channels of the data.

    Raises: UserError unless width and head are multiples of the number of channels.
    """
    if width % channels or head % channels:
        raise UserError(
            f"width and head channels must be multiples of the {channels} channels of the data, got {width} and {head}"
        )


def gate(x: Tensor) -> Tensor:
    """Return tanh(a) * sigmoid(b) [B, C, ...] of the two halves of the channels [B, 2C, ...] (equation 2)."""
    a, b = x.chunk(2, 1)
    return a.tanh() * b.sigmoid()


def rows_above(kernel: int) -> Tensor:
    """Return the mask [1, 1, k // 2 + 1, k] of a vertical kernel that does not see its own row, the last one."""
    mask = torch.ones(1, 1, kernel // 2 + 1, kernel)
    mask[:, :, -1] = 0
    return mask


class GatedLayer(nn.Module):
    """One layer of both stacks (figure 2).

    Args:
        inputs: input features.
        width: output features of each stack.
        kernel: side of the kernel, odd.
        channels: of the data; features belong to them in turn.
        first: whether this is the first layer, which does not see its own position.
        num_classes: of a label; 0 for none.
        condition_channels: of features that it is conditioned on; 0 for none.
    """

    def __init__(
        self, inputs: int, width: int, kernel: int, channels: int, first: bool, num_classes: int, condition_channels: int
    ) -> None:
        super().__init__()
        radius = kernel // 2
        left = None
        if first or channels > 1:
            left = mask_of(2 * width, inputs, (1, 2 * radius + 1), channels, "A" if first else "B")[..., : radius + 1]
        self.vertical = MaskedConv(
            inputs, 2 * width, (radius + 1, kernel), (radius, radius, radius, 0), rows_above(kernel) if first else None
        )
        self.across: nn.Conv2d = nn.Conv2d(2 * width, 2 * width, 1)
        self.horizontal = MaskedConv(inputs, 2 * width, (1, radius + 1), (radius, 0, 0, 0), left)
        self.out = MaskedConv(width, width, mask=channel_mask(width, width, channels))
        self.label = nn.Embedding(num_classes, 2 * width) if num_classes else None
        self.condition = nn.Conv2d(condition_channels, 2 * width, 1, bias=False) if condition_channels else None
        self.residual = not first

    def condition_bias(self, label: Tensor | None, condition: Tensor | None) -> Tensor | float:
        """Return the bias before both gates, for a class [B] and features [B, F, H, W] (section 2.3)."""
        total: Tensor | float = 0.0
        if self.label is not None:
            assert label is not None
            total = total + self.label(label)[:, :, None, None]
        if self.condition is not None:
            total = total + self.condition(condition)
        return total

    def forward(self, above: Tensor, left: Tensor, label: Tensor | None, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        bias = self.condition_bias(label, condition)
        vertical = self.vertical(above)
        out = self.out(gate(self.across(vertical) + self.horizontal(left) + bias))
        return self.vertical_output(vertical + bias), self.horizontal_output(out, left)

    def vertical_output(self, activation: Tensor) -> Tensor:
        """Return the vertical stack's output [B, C, H, W], for its activation before the gate [B, 2C, H, W]."""
        return gate(activation)

    def horizontal_output(self, out: Tensor, left: Tensor) -> Tensor:
        """Return the horizontal stack's output [B, C, ...], with a residual connection except in the first layer."""
        return out + left if self.residual else out


class GatedStacks(nn.Module):
    """Compute features [B, width, H, W] of the positions before each position, from features [B, inputs, H, W].

    Args:
        inputs: input features, a multiple of `channels`.
        width: features of each stack, a multiple of `channels`.
        layers: number of gated layers.
        first_kernel_size: side of the first layer's kernel, odd.
        kernel_size: side of the other layers' kernels, odd.
        channels: of the data; features belong to them in turn.
        num_classes: of a label; 0 for none.
        condition_channels: of features that the stacks are conditioned on, at any position; 0 for none.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        layers: int,
        first_kernel_size: int,
        kernel_size: int,
        channels: int = 1,
        num_classes: int = 0,
        condition_channels: int = 0,
    ) -> None:
        super().__init__()
        self.inputs, self.width = inputs, width
        self.layers = cast(
            Sequence[GatedLayer],
            nn.ModuleList(
                GatedLayer(
                    width if i else inputs,
                    width,
                    kernel_size if i else first_kernel_size,
                    channels,
                    i == 0,
                    num_classes,
                    condition_channels,
                )
                for i in range(layers)
            ),
        )

    def forward(self, x: Tensor, label: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        above = left = x
        for layer in self.layers:
            above, left = layer(above, left, label, condition)
        return left

    def decoder(
        self, n: int, height: int, width: int, label: Tensor | None = None, condition: Tensor | None = None
    ) -> GatedStacksDecoder:
        """Return a decoder that computes the same features position by position, as the inputs become known."""
        return GatedStacksDecoder(self.layers, n, (height, width), label, condition)


class GatedStacksDecoder:
    """Compute the features of `GatedStacks` position by position; the cost of one does not grow with the size of the grid.

    The vertical stack of a row depends on the rows above alone, so it is computed once per row. At a position, one matrix
    product per layer is left, over the few positions to the left. Activations beyond the edges are zero, as padding is.
    """

    def __init__(
        self, layers: Sequence[GatedLayer], n: int, size: tuple[int, int], label: Tensor | None, condition: Tensor | None
    ) -> None:
        self.layers = list(layers)
        self.height, self.width = size
        weight = self.layers[0].vertical.weight
        self.biases = [layer.condition_bias(label, condition) for layer in self.layers]
        self.vertical = [layer.vertical.masked_weight() for layer in self.layers]
        self.left_weight = [layer.horizontal.masked_weight()[:, :, 0].permute(2, 1, 0).flatten(0, 1) for layer in self.layers]
        self.out_weight = [layer.out.masked_weight()[:, :, 0, 0] for layer in self.layers]
        inputs = [kernel.shape[1] for kernel in self.vertical]
        radii = [kernel.shape[2] - 1 for kernel in self.vertical]
        self.above = [weight.new_zeros(n, i, self.height + r, self.width + 2 * r) for i, r in zip(inputs, radii, strict=True)]
        self.left = [weight.new_zeros(n, self.width + r, i) for i, r in zip(inputs, radii, strict=True)]
        self.row_bias: list[Tensor] = []

    def row(self, r: int) -> None:
        """Begin a row: compute what the rows above contribute to it."""
        self.row_bias = []
        for i, layer in enumerate(self.layers):
            kernel = self.vertical[i]
            window = self.above[i][:, :, r : r + kernel.shape[2]]
            vertical = conv2d(window, kernel, layer.vertical.bias)
            condition = self.biases[i]
            condition = condition[:, :, r : r + 1] if isinstance(condition, Tensor) and condition.shape[2] > 1 else condition
            bias = layer.horizontal.bias
            assert bias is not None
            across = layer.across(vertical) + condition + bias[:, None, None]
            self.row_bias.append(across[:, :, 0].permute(2, 0, 1).contiguous())  # [W, n, 2C]
            if i + 1 < len(self.layers):
                self._store_row(self.above[i + 1], r, layer.vertical_output(vertical + condition))
            self.left[i].zero_()

    @staticmethod
    def _store_row(above: Tensor, r: int, row: Tensor) -> None:
        radius = (above.shape[3] - row.shape[3]) // 2
        above[:, :, r + radius, radius : radius + row.shape[3]] = row[:, :, 0]

    def features(self, c: int, x: Tensor) -> Tensor:
        """Return features [n, width] at column c of the row, from its own inputs as far as they are known [n, inputs]."""
        for i, layer in enumerate(self.layers):
            left, weight = self.left[i], self.left_weight[i]
            radius = left.shape[1] - self.width
            left[:, c + radius] = x
            window = left[:, c : c + radius + 1].flatten(1)
            out = linear(gate(torch.addmm(self.row_bias[i][c], window, weight)), self.out_weight[i], layer.out.bias)
            x = layer.horizontal_output(out, x)
        return x

    def put(self, r: int, c: int, x: Tensor) -> None:
        """Set the inputs [n, inputs] at a position."""
        radius = self.above[0].shape[2] - self.height
        self.above[0][:, :, r + radius, c + radius] = x
        self.left[0][:, c + radius] = x


class GatedNet(nn.Module):
    """Compute logits [B, maps, H, W, K] of ids [B, maps, H, W], each from earlier positions and from earlier maps at its own.

    Raises: UserError unless width and head channels are multiples of the number of maps, to which they belong in turn.
    """

    def __init__(
        self,
        maps: int,
        num_codes: int,
        *,
        width: int,
        layers: int,
        first_kernel_size: int,
        kernel_size: int,
        head_channels: int,
        num_classes: int = 0,
        condition_channels: int = 0,
    ) -> None:
        super().__init__()
        check_channel_groups(maps, width, head_channels)
        self.maps = maps
        self.embed = nn.ModuleList(nn.Embedding(num_codes, width // maps) for _ in range(maps))
        self.stacks = GatedStacks(width, width, layers, first_kernel_size, kernel_size, maps, num_classes, condition_channels)
        self.hidden = MaskedConv(width, head_channels, mask=channel_mask(head_channels, width, maps))
        self.last = MaskedConv(head_channels, num_codes * maps, mask=channel_mask(num_codes * maps, head_channels, maps))

    def forward(
        self,
        ids: Tensor,
        label: Tensor | None = None,
        condition: Tensor | None = None,
        dropout_rate: float = 0.0,
        random: Random | None = None,
    ) -> Tensor:
        """Compute the logits; given random numbers, features are dropped out at `dropout_rate`."""
        features = self.stacks(self.embedded(ids).movedim(-1, 1), label, condition)
        logits = self.last(relu(self.hidden(dropout(features, dropout_rate, random))))
        return logits.unflatten(1, (-1, self.maps)).permute(0, 2, 3, 4, 1)

    def embedded(self, ids: Tensor) -> Tensor:
        """Return features [B, ..., width] of ids [B, maps, ...]; they belong to the maps in turn."""
        return torch.stack([embed(ids[:, m]) for m, embed in enumerate(self.embed)], -1).flatten(-2)

    def decoder(
        self, n: int, height: int, width: int, label: Tensor | None = None, condition: Tensor | None = None
    ) -> IncrementalDecoder:
        """Return a decoder that computes the same logits position by position."""
        return _GatedNetDecoder(self, self.stacks.decoder(n, height, width, label, condition))


class _GatedNetDecoder:
    def __init__(self, net: GatedNet, stacks: GatedStacksDecoder) -> None:
        self.net, self.stacks = net, stacks
        self.head = [(layer.masked_weight()[:, :, 0, 0], layer.bias) for layer in (net.hidden, net.last)]

    def row(self, r: int) -> None:
        self.stacks.row(r)

    def logits(self, r: int, c: int, known: Tensor) -> Tensor:
        x = self.stacks.features(c, self.net.embedded(known))
        hidden, last = self.head
        x = linear(relu(linear(x, *hidden)), *last)
        return x.unflatten(1, (-1, self.net.maps)).transpose(1, 2)

    def put(self, r: int, c: int, ids: Tensor) -> None:
        self.stacks.put(r, c, self.net.embedded(ids))
