"""A gated PixelCNN whose layers each add to the logits by a way of their own, over values of pixels.

After anordertoreclaim/PixelCNN (github.com, commit 606ebe9), which joins the two stacks of van den Oord et al. 2016,
arXiv:1606.05328, otherwise than figure 2 does: the vertical stack sees its own row from the first layer on, and is moved down
by one row where it is told to the horizontal one; both stacks add to what they were; the class does not enter the first layer.
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
    """One layer of both stacks. first: may not see its own place, nor be told the class, and has no way to the logits."""

    def __init__(self, inputs: int, width: int, kernel: int, channels: int, first: bool, classes: int) -> None:
        super().__init__()
        reach = kernel // 2
        left = mask_of(2 * width, inputs, (1, kernel), channels, "A" if first else "B")[..., : reach + 1]
        among, out = channel_mask(2 * width, 2 * width, channels), channel_mask(width, width, channels)
        if first and channels > 1:
            out = channel_mask_at_centre(width, width, channels, "A").float()[:, :, None, None]
        self.vertical = MaskedConv(inputs, 2 * width, (reach + 1, kernel), (reach, reach, reach, 0))
        self.own = nn.Conv2d(inputs, 2 * width, 1)
        self.across = MaskedConv(2 * width, 2 * width, mask=None if first else among)
        self.horizontal = MaskedConv(inputs, 2 * width, (1, reach + 1), (reach, 0, 0, 0), left)
        self.out = MaskedConv(width, width, mask=out)
        self.skip = None if first else MaskedConv(width, width, mask=channel_mask(width, width, channels))
        self.label = nn.Embedding(classes, 2 * width) if classes and not first else None
        self.first = first

    def told_of(self, label: Tensor | None) -> Tensor | float:
        """What is added before both gates."""
        return 0.0 if self.label is None else self.label(label)[:, :, None, None]

    def forward(self, above: Tensor, left: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor, Tensor | float]:
        """What both stacks hand on, and what goes to the logits."""
        added = self.told_of(label)
        found = self.vertical(above) + self.own(above) + added
        lower = torch.cat([self.nothing(found), found[:, :, :-1]], 2)
        seen = gate(self.across(lower) + self.horizontal(left) + added)
        skip = 0.0 if self.skip is None else self.skip(seen)
        return self.risen(found, above), self.kept(self.out(seen), left), skip

    def nothing(self, like: Tensor) -> Tensor:
        """What the vertical kernel finds above the picture, where all is zero [B, 2C, 1, W]."""
        assert self.vertical.bias is not None
        return self.vertical.bias[:, None, None].expand(len(like), -1, 1, like.shape[3])

    def risen(self, found: Tensor, above: Tensor) -> Tensor:
        """What the vertical stack hands on [B, C, H, W]."""
        return gate(found) if self.first else gate(found) + above

    def kept(self, out: Tensor, left: Tensor) -> Tensor:
        """What the horizontal stack hands on [B, C, ...]."""
        return out if self.first else out + left


class SkipNet(nn.Module):
    """Logits [B, channels, H, W, levels] of ids [B, channels, H, W] in 0..levels - 1, which it takes as numbers in [0, 1].

    width and head are multiples of the number of channels. layers: after the first.

    With several channels, both masked convolutions of the first layer leave out a channel's own maps, as in the origin: no
    channel sees the one before it at its own place, nor the first one the last two of the place to the left. `GatedNet` does.

    Raises: UserError if they are not multiples.
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
        """Ids as numbers in [0, 1]."""
        return ids.to(self.last.weight.dtype) / (self.levels - 1)

    def decoder(self, n: int, height: int, width: int, label: Tensor | None = None) -> IncrementalDecoder:
        """The same logits, place by place."""
        return _SkipWalk(self, n, (height, width), label)


class _SkipWalk:
    """At a row, the vertical stack goes through the row above, which is known by then; at a place, what remains is one product
    of matrices per layer."""

    def __init__(self, net: SkipNet, n: int, size: tuple[int, int], label: Tensor | None) -> None:
        self.net, self.layers, (height, width) = net, list(net.layers), size
        self.added = [layer.told_of(label) for layer in self.layers]
        self.total = 0.0 if net.label is None else net.label(label)
        self.weights = [layer.horizontal.masked_weight()[:, :, 0].permute(2, 1, 0).flatten(0, 1) for layer in self.layers]
        self.outs = [(layer.out.masked_weight()[:, :, 0, 0], layer.out.bias) for layer in self.layers]
        self.skips = [
            None if layer.skip is None else (layer.skip.masked_weight()[:, :, 0, 0], layer.skip.bias) for layer in self.layers
        ]
        self.head = [(conv.masked_weight()[:, :, 0, 0], conv.bias) for conv in (net.hidden, net.last)]
        self.reach = [layer.vertical.kernel_size[0] - 1 for layer in self.layers]
        sizes = [(layer.vertical.in_channels, r) for layer, r in zip(self.layers, self.reach, strict=True)]
        place = net.last.weight
        self.above = [place.new_zeros(n, inputs, height + r, width + 2 * r) for inputs, r in sizes]
        self.left = [place.new_zeros(n, width + r, inputs) for inputs, r in sizes]
        self.found: list[Tensor] = []

    def row(self, r: int) -> None:
        self.found = []
        for i, layer in enumerate(self.layers):
            reach, above, added = self.reach[i], self.above[i], self.added[i]
            own = above[:, :, r + reach - 1 : r + reach, reach : above.shape[3] - reach]
            if r == 0:
                found = layer.nothing(above[..., reach : above.shape[3] - reach])
            else:
                window = above[:, :, r - 1 : r + reach]
                found = conv2d(window, layer.vertical.masked_weight(), layer.vertical.bias) + layer.own(own) + added
                if i + 1 < len(self.layers):
                    edge = self.reach[i + 1]
                    higher = self.above[i + 1]
                    higher[:, :, r + edge - 1, edge : higher.shape[3] - edge] = layer.risen(found, own)[:, :, 0]
            assert layer.horizontal.bias is not None
            across = layer.across(found) + added + layer.horizontal.bias[:, None, None]
            self.found.append(across[:, :, 0].permute(2, 0, 1).contiguous())  # [W, n, 2C]
            self.left[i].zero_()

    def logits(self, r: int, c: int, known: Tensor) -> Tensor:
        x, total = self.net.values(known), self.total
        for i, layer in enumerate(self.layers):
            left, reach, skip = self.left[i], self.reach[i], self.skips[i]
            left[:, c + reach] = x
            seen = gate(torch.addmm(self.found[i][c], left[:, c : c + reach + 1].flatten(1), self.weights[i]))
            total = total if skip is None else total + linear(seen, *skip)
            x = layer.kept(linear(seen, *self.outs[i]), x)
        assert isinstance(total, Tensor)
        hidden, last = self.head
        logits = linear(relu(linear(relu(total), *hidden)), *last)
        return logits.unflatten(1, (-1, self.net.channels)).transpose(1, 2)

    def put(self, r: int, c: int, ids: Tensor) -> None:
        x, reach = self.net.values(ids), self.reach[0]
        self.above[0][:, :, r + reach, c + reach] = x
        self.left[0][:, c + reach] = x
