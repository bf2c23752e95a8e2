"""A gated PixelCNN whose first layer is one square masked convolution that both stacks begin with, over values of pixels.

After kamenbliznashki/pixel_models (github.com, commit b8a5746), which joins the two stacks of van den Oord et al. 2016,
arXiv:1606.05328, otherwise than figure 2 does: no layer of the vertical stack sees its own row; the class enters before the
first gate alone; the logits come of gated layers, too; what both stacks hand on may be normed.
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
    """[B, C, ...], each channel less a mean, over a deviation, times a weight, plus a bias: batch norm as it is after training.

    Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 2. Training does not move the mean and the variance, which come with the
    weights: by those of a batch, a place would learn of what comes after it, and the net would be no law.
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
    """One layer of both stacks, whose vertical one sees a row less than the layer before."""

    def __init__(self, width: int, kernel: int, channels: int, normed: bool) -> None:
        super().__init__(width, width, kernel, channels, first=False, num_classes=0, condition_channels=0)
        self.vertical.mask = rows_above(kernel)
        self.across = MaskedConv(2 * width, 2 * width, mask=channel_mask(2 * width, 2 * width, channels))
        self.norms = nn.ModuleList(FixedNorm(width) for _ in range(2)) if normed else None

    def vertical_output(self, found: Tensor) -> Tensor:
        x = super().vertical_output(found)
        return x if self.norms is None else cast(Tensor, self.norms[0](x))

    def horizontal_output(self, out: Tensor, left: Tensor) -> Tensor:
        x = super().horizontal_output(out, left)
        return x if self.norms is None else cast(Tensor, self.norms[1](x))


class SquareNet(nn.Module):
    """Logits [B, channels, H, W, levels] of ids [B, channels, H, W] in 0..levels - 1, which it takes as numbers in [-1, 1].

    width and head are multiples of the number of channels. layers: after the first. normed: with `FixedNorm`s.

    Every layer of the vertical stack goes up by a row or more. Whatever their number, the net sees only
    first_kernel_size // 2 columns to the right in the row above, and kernel_size // 2 more in each row above that; `GatedNet`
    sees all.

    Raises: UserError if width and head are not multiples.
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
        reach = first_kernel_size // 2
        mask = mask_of(2 * width, channels, (first_kernel_size, first_kernel_size), channels, "A")[:, :, : reach + 1]
        self.entry = MaskedConv(channels, 2 * width, (reach + 1, first_kernel_size), (reach, reach, reach, 0), mask)
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
        above = left = gate(self.entry(self.values(ids)) + self.told_of(label))
        for layer in self.layers:
            above, left = layer(above, left, None, None)
        first, second, last = self.head
        logits = last(gate(second(gate(first(left)))))
        return cast(Tensor, logits.unflatten(1, (-1, self.channels)).permute(0, 2, 3, 4, 1))

    def values(self, ids: Tensor) -> Tensor:
        """Ids as numbers in [-1, 1]."""
        return ids.to(self.entry.weight.dtype) * (2 / (self.levels - 1)) - 1

    def told_of(self, label: Tensor | None) -> Tensor | float:
        """What is added before the first gate [B, 2C, 1, 1] of a class [B]."""
        if self.label is None:
            return 0.0
        assert label is not None
        return (self.label.weight[:, label].T + self.label.bias)[:, :, None, None]

    def decoder(self, n: int, height: int, width: int, label: Tensor | None = None) -> IncrementalDecoder:
        """The same logits, place by place."""
        return _SquareWalk(self, n, (height, width), label)


class _SquareWalk:
    """The first layer at a place is what it sees of the rows above, computed once per row, and one product of matrices."""

    def __init__(self, net: SquareNet, n: int, size: tuple[int, int], label: Tensor | None) -> None:
        self.net, self.added = net, net.told_of(label)
        self.stacks = GatedStacksDecoder(net.layers, n, size, None, None)
        weight = net.entry.masked_weight()
        self.reach = reach = weight.shape[2] - 1
        self.rows = weight[:, :, :reach]
        self.weight = weight[:, :, reach, : reach + 1].permute(2, 1, 0).flatten(0, 1)
        self.above = weight.new_zeros(n, net.channels, size[0] + reach, size[1] + 2 * reach)
        self.left = weight.new_zeros(n, size[1] + reach, net.channels)
        self.head = [(conv.masked_weight()[:, :, 0, 0], conv.bias) for conv in net.head]
        self.found = weight.new_zeros(0)

    def row(self, r: int) -> None:
        found = conv2d(self.above[:, :, r : r + self.reach], self.rows, self.net.entry.bias) + self.added
        self.found = found[:, :, 0].permute(2, 0, 1).contiguous()  # [W, n, 2C]
        self.left.zero_()
        self.stacks.row(r)

    def logits(self, r: int, c: int, known: Tensor) -> Tensor:
        x = self.stacks.features(c, self._entered(c, self.net.values(known)))
        first, second, last = self.head
        logits = linear(gate(linear(gate(linear(x, *first)), *second)), *last)
        return logits.unflatten(1, (-1, self.net.channels)).transpose(1, 2)

    def put(self, r: int, c: int, ids: Tensor) -> None:
        x = self.net.values(ids)
        self.stacks.put(r, c, self._entered(c, x))
        self.above[:, :, r + self.reach, c + self.reach] = x

    def _entered(self, c: int, x: Tensor) -> Tensor:
        """What both stacks begin with at a column of the row [n, width]."""
        self.left[:, c + self.reach] = x
        return gate(torch.addmm(self.found[c], self.left[:, c : c + self.reach + 1].flatten(1), self.weight))
