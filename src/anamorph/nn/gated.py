"""Gated convolutions in two stacks, which together see all that comes before a place, and nothing that comes after.

van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders", arXiv:1606.05328, section 2 and figure 2.
The vertical stack sees the rows above; the horizontal one its own row to the left, and what the vertical one has found.
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
    """Of a convolution of one pixel that may see its own channel; None if there is but one."""
    return channel_mask_at_centre(outputs, inputs, channels, "B").float()[:, :, None, None] if channels > 1 else None


def check_channel_groups(channels: int, width: int, head: int) -> None:
    """Raise a UserError unless the features of stacks and head can take turns among the channels."""
    if width % channels or head % channels:
        raise UserError(f"{channels} maps of codes need a width and a head that are multiples of it, got {width}, {head}")


def gate(x: Tensor) -> Tensor:
    """tanh of the first half of the channels, times the sigmoid of the second [B, 2C, ...] -> [B, C, ...]."""
    a, b = x.chunk(2, 1)
    return a.tanh() * b.sigmoid()


def rows_above(kernel: int) -> Tensor:
    """Of a vertical kernel [k // 2 + 1, k] that may not see its own row, the last [1, 1, k // 2 + 1, k]."""
    mask = torch.ones(1, 1, kernel // 2 + 1, kernel)
    mask[:, :, -1] = 0
    return mask


class GatedLayer(nn.Module):
    """One layer of both stacks (figure 2). channels: of the data, whose maps take turns. first: may not see its own place."""

    def __init__(
        self, inputs: int, width: int, kernel: int, channels: int, first: bool, num_classes: int, condition_channels: int
    ) -> None:
        super().__init__()
        reach = kernel // 2
        left = None
        if first or channels > 1:
            left = mask_of(2 * width, inputs, (1, 2 * reach + 1), channels, "A" if first else "B")[..., : reach + 1]
        self.vertical = MaskedConv(
            inputs, 2 * width, (reach + 1, kernel), (reach, reach, reach, 0), rows_above(kernel) if first else None
        )
        self.across: nn.Conv2d = nn.Conv2d(2 * width, 2 * width, 1)
        self.horizontal = MaskedConv(inputs, 2 * width, (1, reach + 1), (reach, 0, 0, 0), left)
        self.out = MaskedConv(width, width, mask=channel_mask(width, width, channels))
        self.label = nn.Embedding(num_classes, 2 * width) if num_classes else None
        self.condition = nn.Conv2d(condition_channels, 2 * width, 1, bias=False) if condition_channels else None
        self.residual = not first

    def condition_bias(self, label: Tensor | None, condition: Tensor | None) -> Tensor | float:
        """What is added before both gates: of a class [B], and of features [B, F, H, W]."""
        total: Tensor | float = 0.0
        if self.label is not None:
            assert label is not None
            total = total + self.label(label)[:, :, None, None]
        if self.condition is not None:
            total = total + self.condition(condition)
        return total

    def forward(self, above: Tensor, left: Tensor, label: Tensor | None, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        added = self.condition_bias(label, condition)
        found = self.vertical(above)
        out = self.out(gate(self.across(found) + self.horizontal(left) + added))
        return self.vertical_output(found + added), self.horizontal_output(out, left)

    def vertical_output(self, found: Tensor) -> Tensor:
        """What the vertical stack hands on [B, C, H, W], of what it has found [B, 2C, H, W]."""
        return gate(found)

    def horizontal_output(self, out: Tensor, left: Tensor) -> Tensor:
        """What the horizontal stack hands on [B, C, ...]."""
        return out + left if self.residual else out


class GatedStacks(nn.Module):
    """Features [B, inputs, H, W] to features [B, width, H, W] of what comes before each place.

    channels: of the data; the maps of features take turns among them, so inputs and width are multiples of it. classes: of a
    label, 0 for none. told: features that it is told, which may look anywhere, 0 for none.
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
        """The same features, place by place, for when the inputs become known one after the other."""
        return GatedStacksDecoder(self.layers, n, (height, width), label, condition)


class GatedStacksDecoder:
    """The layers of `GatedStacks` at one place after the other, at a cost that does not grow with the size of the grid.

    A row's vertical stack depends on the rows above alone: it is computed once per row. At a place, what remains of each
    layer is one product of matrices over the few places to the left. What has not been seen is zero, as beyond the edges:
    it is activations that are zero there, not what the net would make of zeros.
    """

    def __init__(
        self, layers: Sequence[GatedLayer], n: int, size: tuple[int, int], label: Tensor | None, condition: Tensor | None
    ) -> None:
        self.layers = list(layers)
        self.height, self.width = size
        place = self.layers[0].vertical.weight
        self.added = [layer.condition_bias(label, condition) for layer in self.layers]
        self.vertical = [layer.vertical.masked_weight() for layer in self.layers]
        self.left_weight = [layer.horizontal.masked_weight()[:, :, 0].permute(2, 1, 0).flatten(0, 1) for layer in self.layers]
        self.out_weight = [layer.out.masked_weight()[:, :, 0, 0] for layer in self.layers]
        inputs = [weight.shape[1] for weight in self.vertical]
        reach = [weight.shape[2] - 1 for weight in self.vertical]
        self.above = [place.new_zeros(n, i, self.height + r, self.width + 2 * r) for i, r in zip(inputs, reach, strict=True)]
        self.left = [place.new_zeros(n, self.width + r, i) for i, r in zip(inputs, reach, strict=True)]
        self.found: list[Tensor] = []

    def row(self, r: int) -> None:
        """Begin a row."""
        self.found = []
        for i, layer in enumerate(self.layers):
            kernel = self.vertical[i]
            window = self.above[i][:, :, r : r + kernel.shape[2]]
            found = conv2d(window, kernel, layer.vertical.bias)
            added = self.added[i]
            added = added[:, :, r : r + 1] if isinstance(added, Tensor) and added.shape[2] > 1 else added
            bias = layer.horizontal.bias
            assert bias is not None
            across = layer.across(found) + added + bias[:, None, None]
            self.found.append(across[:, :, 0].permute(2, 0, 1).contiguous())  # [W, n, 2C]
            if i + 1 < len(self.layers):
                self._put(self.above[i + 1], r, layer.vertical_output(found + added))
            self.left[i].zero_()

    @staticmethod
    def _put(above: Tensor, r: int, row: Tensor) -> None:
        edge = (above.shape[3] - row.shape[3]) // 2
        above[:, :, r + edge, edge : edge + row.shape[3]] = row[:, :, 0]

    def features(self, c: int, x: Tensor) -> Tensor:
        """Features [n, width] at a column of the row, of its own inputs as far as they are known [n, inputs]."""
        for i, layer in enumerate(self.layers):
            left, weight = self.left[i], self.left_weight[i]
            reach = left.shape[1] - self.width
            left[:, c + reach] = x
            seen = left[:, c : c + reach + 1].flatten(1)
            out = linear(gate(torch.addmm(self.found[i][c], seen, weight)), self.out_weight[i], layer.out.bias)
            x = layer.horizontal_output(out, x)
        return x

    def put(self, r: int, c: int, x: Tensor) -> None:
        """Say what the inputs [n, inputs] at a place are."""
        edge = self.above[0].shape[2] - self.height
        self.above[0][:, :, r + edge, c + edge] = x
        self.left[0][:, c + edge] = x


class GatedNet(nn.Module):
    """Logits [B, maps, H, W, K] of ids [B, maps, H, W]: of each, from those above and to the left, and from earlier maps at its
    place. width and head are multiples of the number of maps, since their features take turns.

    Raises: UserError if they are not.
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
        """rate: the share of features that the logits do without, by random numbers."""
        features = self.stacks(self.embedded(ids).movedim(-1, 1), label, condition)
        logits = self.last(relu(self.hidden(dropout(features, dropout_rate, random))))
        return logits.unflatten(1, (-1, self.maps)).permute(0, 2, 3, 4, 1)

    def embedded(self, ids: Tensor) -> Tensor:
        """Features [B, ..., width] of ids [B, maps, ...], the maps by turns."""
        return torch.stack([embed(ids[:, m]) for m, embed in enumerate(self.embed)], -1).flatten(-2)

    def decoder(
        self, n: int, height: int, width: int, label: Tensor | None = None, condition: Tensor | None = None
    ) -> IncrementalDecoder:
        """The same logits, place by place."""
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
