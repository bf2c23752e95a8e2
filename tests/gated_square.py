"""A gated PixelCNN over pixel values, both of whose stacks begin with one square masked convolution.

After kamenbliznashki/pixel_models (github.com, commit b8a5746), which joins the two stacks of van den Oord et al. 2016,
arXiv:1606.05328, differently from figure 2: no layer of the vertical stack sees its own row; the class is added before the
first gate alone; the logits are computed by gated layers, too; outputs of both stacks may be normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from anamorph.nn.gated import GatedLayer, GatedStacksDecoder, channel_mask, check_channel_groups, gate, rows_above
from anamorph.nn.incremental import IncrementalDecoder
from anamorph.nn.masked import MaskedConv, mask_of

__all__ = ["FixedNorm", "SquareNet"]


class FixedNorm(nn.Module):
    """Batch normalisation of [B, C, ...] by fixed statistics, as after training (Ioffe and Szegedy 2015, algorithm 2).

    Mean and variance come with the weights. Those of a batch would depend on later positions, so that the net would not be
    autoregressive.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        mean, scale, bias = (
            t.view(-1, *(1 for _ in x.shape[2:])) for t in (self.mean, self.weight * (self.variance + 1e-5).rsqrt(), self.bias)
        )
        return (x - mean) * scale + bias


class _SquareLayer(GatedLayer):
    """One layer of both stacks, whose vertical stack does not see its own row."""

    def __init__(self, width: int, kernel: int, channels: int, normed: bool) -> None:
        super().__init__(width, width, kernel, channels, first=False, num_classes=0, condition_channels=0)
        self.vertical.mask = rows_above(kernel)
        self.across = MaskedConv(2 * width, 2 * width, mask=channel_mask(2 * width, 2 * width, channels))
        self.norms = nn.ModuleList(FixedNorm(width) for _ in range(2)) if normed else None

    def vertical_output(self, activation: Tensor) -> Tensor:
        x = super().vertical_output(activation)
        return x if self.norms is None else cast(Tensor, self.norms[0](x))

    def horizontal_output(self, out: Tensor, left: Tensor) -> Tensor:
        x = super().horizontal_output(out, left)
        return x if self.norms is None else cast(Tensor, self.norms[1](x))


class SquareNet(nn.Module):
    """Computes logits [B, channels, H, W, levels] of ids [B, channels, H, W] in 0..levels - 1, read as numbers in [-1, 1].

    There are `layers` layers after the first; `normed` adds `FixedNorm`s. Every layer of the vertical stack moves up by a row
    or more. Whatever their number, the net sees only first_kernel_size // 2 columns to the right in the row above, and
    kernel_size // 2 more in each row above that; `GatedNet` sees all.

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
        normed: bool = False,
    ) -> None:
        super().__init__()
        check_channel_groups(channels, width, head_channels)
        self.channels, self.levels = channels, levels
        radius = first_kernel_size // 2
        mask = mask_of(2 * width, channels, (first_kernel_size, first_kernel_size), channels, "A")[:, :, : radius + 1]
        self.entry = MaskedConv(channels, 2 * width, (radius + 1, first_kernel_size), (radius, radius, radius, 0), mask)
        self.label = nn.Linear(classes, 2 * width) if classes else None
        self.layers = cast(
            Sequence[_SquareLayer],
            nn.ModuleList(_SquareLayer(width, kernel_size, channels, normed) for _ in range(layers)),
        )
        sizes = ((width, 2 * head_channels), (head_channels, 2 * head_channels), (head_channels, levels * channels))
        self.head = cast(
            Sequence[MaskedConv], nn.ModuleList(MaskedConv(i, o, mask=channel_mask(o, i, channels)) for i, o in sizes)
        )

    def forward(self, ids: Tensor, label: Tensor | None = None) -> Tensor:
        above = left = gate(self.entry(self.values(ids)) + self.condition_bias(label))
        for layer in self.layers:
            above, left = layer(above, left, None, None)
        first, second, last = self.head
        logits = last(gate(second(gate(first(left)))))
        return cast(Tensor, logits.unflatten(1, (-1, self.channels)).permute(0, 2, 3, 4, 1))

    def values(self, ids: Tensor) -> Tensor:
        """Return ids as numbers in [-1, 1]."""
        return ids.to(self.entry.weight.dtype) * (2 / (self.levels - 1)) - 1

    def condition_bias(self, label: Tensor | None) -> Tensor | float:
        """Return the bias before the first gate [B, 2C, 1, 1] for a class [B]."""
        if self.label is None:
            return 0.0
        assert label is not None
        return (self.label.weight[:, label].T + self.label.bias)[:, :, None, None]

    def decoder(self, n: int, height: int, width: int, label: Tensor | None = None) -> IncrementalDecoder:
        """Return a decoder that computes the same logits position by position."""
        return _SquareDecoder(self, n, (height, width), label)


class _SquareDecoder:
    """The first layer is computed over the rows above once per row, and by one matrix product at each position."""

    def __init__(self, net: SquareNet, n: int, size: tuple[int, int], label: Tensor | None) -> None:
        self.net, self.bias = net, net.condition_bias(label)
        self.stacks = GatedStacksDecoder(net.layers, n, size, None, None)
        weight = net.entry.masked_weight()
        self.radius = radius = weight.shape[2] - 1
        self.rows = weight[:, :, :radius]
        self.weight = weight[:, :, radius, : radius + 1].permute(2, 1, 0).flatten(0, 1)
        self.above = weight.new_zeros(n, net.channels, size[0] + radius, size[1] + 2 * radius)
        self.left = weight.new_zeros(n, size[1] + radius, net.channels)
        self.head = [(conv.masked_weight()[:, :, 0, 0], conv.bias) for conv in net.head]
        self.row_bias = weight.new_zeros(0)

    def row(self, r: int) -> None:
        activation = conv2d(self.above[:, :, r : r + self.radius], self.rows, self.net.entry.bias) + self.bias
        self.row_bias = activation[:, :, 0].permute(2, 0, 1).contiguous()  # [W, n, 2C]
        self.left.zero_()
        self.stacks.row(r)

    def logits(self, r: int, c: int, known: Tensor) -> Tensor:
        x = self.stacks.features(c, self._first_layer(c, self.net.values(known)))
        first, second, last = self.head
        logits = linear(gate(linear(gate(linear(x, *first)), *second)), *last)
        return logits.unflatten(1, (-1, self.net.channels)).transpose(1, 2)

    def put(self, r: int, c: int, ids: Tensor) -> None:
        x = self.net.values(ids)
        self.stacks.put(r, c, self._first_layer(c, x))
        self.above[:, :, r + self.radius, c + self.radius] = x

    def _first_layer(self, c: int, x: Tensor) -> Tensor:
        """Return the output of the first layer at a column of the row [n, width]."""
        self.left[:, c + self.radius] = x
        return gate(torch.addmm(self.row_bias[c], self.left[:, c : c + self.radius + 1].flatten(1), self.weight))
