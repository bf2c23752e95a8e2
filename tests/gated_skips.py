"""A gated PixelCNN over pixel values, whose layers have skip connections to the logits.

After anordertoreclaim/PixelCNN (github.com, commit 606ebe9), which joins the two stacks of van den Oord et al. 2016,
arXiv:1606.05328, differently from figure 2: the vertical stack sees its own row from the first layer on, and is shifted down by
one row where it enters the horizontal one; both stacks have residual connections; the first layer is unconditional.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, relu

from anamorph.nn.gated import channel_mask, check_channel_groups, gate
from anamorph.nn.incremental import IncrementalDecoder
from anamorph.nn.masked import MaskedConv, channel_mask_at_centre, mask_of

__all__ = ["SkipNet"]


class _SkipLayer(nn.Module):
    """One layer of both stacks; the first does not see its own position, is unconditional, and has no skip connection."""

    def __init__(self, inputs: int, width: int, kernel: int, channels: int, first: bool, classes: int) -> None:
        super().__init__()
        radius = kernel // 2
        left = mask_of(2 * width, inputs, (1, kernel), channels, "A" if first else "B")[..., : radius + 1]
        among, out = channel_mask(2 * width, 2 * width, channels), channel_mask(width, width, channels)
        if first and channels > 1:
            out = channel_mask_at_centre(width, width, channels, "A").float()[:, :, None, None]
        self.vertical = MaskedConv(inputs, 2 * width, (radius + 1, kernel), (radius, radius, radius, 0))
        self.own = nn.Conv2d(inputs, 2 * width, 1)
        self.across = MaskedConv(2 * width, 2 * width, mask=None if first else among)
        self.horizontal = MaskedConv(inputs, 2 * width, (1, radius + 1), (radius, 0, 0, 0), left)
        self.out = MaskedConv(width, width, mask=out)
        self.skip = None if first else MaskedConv(width, width, mask=channel_mask(width, width, channels))
        self.label = nn.Embedding(classes, 2 * width) if classes and not first else None
        self.first = first

    def condition_bias(self, label: Tensor | None) -> Tensor | float:
        """Return the bias before both gates."""
        return 0.0 if self.label is None else self.label(label)[:, :, None, None]

    def forward(self, above: Tensor, left: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor, Tensor | float]:
        """Return the outputs of both stacks, and the skip connection."""
        bias = self.condition_bias(label)
        vertical = self.vertical(above) + self.own(above) + bias
        shifted = torch.cat([self.above_image(vertical), vertical[:, :, :-1]], 2)
        gated = gate(self.across(shifted) + self.horizontal(left) + bias)
        skip = 0.0 if self.skip is None else self.skip(gated)
        return self.vertical_output(vertical, above), self.horizontal_output(self.out(gated), left), skip

    def above_image(self, like: Tensor) -> Tensor:
        """Return the vertical activation above the image, where all inputs are zero [B, 2C, 1, W]."""
        assert self.vertical.bias is not None
        return self.vertical.bias[:, None, None].expand(len(like), -1, 1, like.shape[3])

    def vertical_output(self, activation: Tensor, above: Tensor) -> Tensor:
        """Return the vertical stack's output [B, C, H, W]."""
        return gate(activation) if self.first else gate(activation) + above

    def horizontal_output(self, out: Tensor, left: Tensor) -> Tensor:
        """Return the horizontal stack's output [B, C, ...]."""
        return out if self.first else out + left


class SkipNet(nn.Module):
    """Computes logits [B, channels, H, W, levels] of ids [B, channels, H, W] in 0..levels - 1, read as numbers in [0, 1].

    There are `layers` layers after the first. With several channels, both masked convolutions of the first layer exclude a
    channel's own features, as in the original: no channel sees the one before it at its own position, nor the first one the
    last two of the position to the left. `GatedNet` does.

    Raises: UserError unless width and head channels are multiples of the number of channels.
    """

    def __init__(
        self,
        channels: int,
        levels: int,
        *,
        width: int,
        layers: int,
        first_kernel_size: int,
        kernel_size: int,
        head_channels: int,
        classes: int = 0,
    ) -> None:
        super().__init__()
        check_channel_groups(channels, width, head_channels)
        self.channels, self.levels = channels, levels
        self.layers = cast(
            Sequence[_SkipLayer],
            nn.ModuleList(
                _SkipLayer(width if i else channels, width, kernel_size if i else first_kernel_size, channels, i == 0, classes)
                for i in range(1 + layers)
            ),
        )
        self.label = nn.Embedding(classes, width) if classes else None
        self.hidden = MaskedConv(width, head_channels, mask=channel_mask(head_channels, width, channels))
        self.last = MaskedConv(head_channels, levels * channels, mask=channel_mask(levels * channels, head_channels, channels))

    def forward(self, ids: Tensor, label: Tensor | None = None) -> Tensor:
        above = left = self.values(ids)
        total: Tensor | float = 0.0 if self.label is None else self.label(label)[:, :, None, None]
        for layer in self.layers:
            above, left, skip = layer(above, left, label)
            total = total + skip
        assert isinstance(total, Tensor)
        logits = self.last(relu(self.hidden(relu(total))))
        return logits.unflatten(1, (-1, self.channels)).permute(0, 2, 3, 4, 1)

    def values(self, ids: Tensor) -> Tensor:
        """Return ids as numbers in [0, 1]."""
        return ids.to(self.last.weight.dtype) / (self.levels - 1)

    def decoder(self, n: int, height: int, width: int, label: Tensor | None = None) -> IncrementalDecoder:
        """Return a decoder that computes the same logits position by position."""
        return _SkipDecoder(self, n, (height, width), label)


class _SkipDecoder:
    """At a row, the vertical stack processes the row above; at a position, one matrix product per layer is left."""

    def __init__(self, net: SkipNet, n: int, size: tuple[int, int], label: Tensor | None) -> None:
        self.net, self.layers, (height, width) = net, list(net.layers), size
        self.biases = [layer.condition_bias(label) for layer in self.layers]
        self.total = 0.0 if net.label is None else net.label(label)
        self.weights = [layer.horizontal.masked_weight()[:, :, 0].permute(2, 1, 0).flatten(0, 1) for layer in self.layers]
        self.outs = [(layer.out.masked_weight()[:, :, 0, 0], layer.out.bias) for layer in self.layers]
        self.skips = [
            None if layer.skip is None else (layer.skip.masked_weight()[:, :, 0, 0], layer.skip.bias) for layer in self.layers
        ]
        self.head = [(conv.masked_weight()[:, :, 0, 0], conv.bias) for conv in (net.hidden, net.last)]
        self.radius = [layer.vertical.kernel_size[0] - 1 for layer in self.layers]
        sizes = [(layer.vertical.in_channels, r) for layer, r in zip(self.layers, self.radius, strict=True)]
        weight = net.last.weight
        self.above = [weight.new_zeros(n, inputs, height + r, width + 2 * r) for inputs, r in sizes]
        self.left = [weight.new_zeros(n, width + r, inputs) for inputs, r in sizes]
        self.row_bias: list[Tensor] = []

    def row(self, r: int) -> None:
        self.row_bias = []
        for i, layer in enumerate(self.layers):
            radius, above, bias = self.radius[i], self.above[i], self.biases[i]
            own = above[:, :, r + radius - 1 : r + radius, radius : above.shape[3] - radius]
            if r == 0:
                vertical = layer.above_image(above[..., radius : above.shape[3] - radius])
            else:
                window = above[:, :, r - 1 : r + radius]
                vertical = conv2d(window, layer.vertical.masked_weight(), layer.vertical.bias) + layer.own(own) + bias
                if i + 1 < len(self.layers):
                    after, inputs = self.radius[i + 1], self.above[i + 1]
                    inputs[:, :, r + after - 1, after : inputs.shape[3] - after] = layer.vertical_output(vertical, own)[:, :, 0]
            assert layer.horizontal.bias is not None
            across = layer.across(vertical) + bias + layer.horizontal.bias[:, None, None]
            self.row_bias.append(across[:, :, 0].permute(2, 0, 1).contiguous())  # [W, n, 2C]
            self.left[i].zero_()

    def logits(self, r: int, c: int, known: Tensor) -> Tensor:
        x, total = self.net.values(known), self.total
        for i, layer in enumerate(self.layers):
            left, radius, skip = self.left[i], self.radius[i], self.skips[i]
            left[:, c + radius] = x
            gated = gate(torch.addmm(self.row_bias[i][c], left[:, c : c + radius + 1].flatten(1), self.weights[i]))
            total = total if skip is None else total + linear(gated, *skip)
            x = layer.horizontal_output(linear(gated, *self.outs[i]), x)
        assert isinstance(total, Tensor)
        hidden, last = self.head
        logits = linear(relu(linear(relu(total), *hidden)), *last)
        return logits.unflatten(1, (-1, self.net.channels)).transpose(1, 2)

    def put(self, r: int, c: int, ids: Tensor) -> None:
        x, radius = self.net.values(ids), self.radius[0]
        self.above[0][:, :, r + radius, c + radius] = x
        self.left[0][:, c + radius] = x
