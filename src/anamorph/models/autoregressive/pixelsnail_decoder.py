"""PixelSNAIL at one position after the other: what has been computed for earlier positions is kept.

What the rows above contribute to a row is computed once, at its beginning. At a position, there remain products of matrices
over the few positions to the left, and one query to the kept keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import conv2d, elu, glu, linear, one_hot, pad, scaled_dot_product_attention

from anamorph.core.space import Codes
from anamorph.nn.masked import WeightNormConv

if TYPE_CHECKING:
    from anamorph.models.autoregressive.pixelsnail import Block, GatedBlock, PixelSNAIL

__all__ = ["PixelSNAILDecoder"]


class PixelSNAILDecoder:
    """`PixelSNAIL.logits` at one place after the other. What a row is told by the rows above, it is told at its beginning;
    at a place, what remains are products of matrices over the few places to the left, and one query to the kept keys."""

    def __init__(self, net: PixelSNAIL, n: int, condition: Codes) -> None:
        _, self.height, self.width = net.space.shape
        self.net, self.reach = net, net.config.kernel_size // 2
        size = (n, self.height, self.width)
        told, label = net.conditioning(condition), net.conditioning.label(condition)
        self.above, left = net.above.masked_weight(), net.left.masked_weight()
        self.left_above, self.tables = left[:, :, :-1], left[:, :, -1].permute(2, 1, 0).contiguous()  # [reach, K, C]
        self.seen = left.new_zeros(n, net.space.num_codes or 0, self.height + self.reach, self.width + 2 * self.reach)
        self.ids = torch.zeros(n, self.width, dtype=torch.long, device=left.device)
        self.blocks = [_BlockDecoder(block, size, net.place, told, label) for block in net.blocks]
        self.head, self.last = [_PointDecoder(gated) for gated in net.head], _flat(net.last)
        self.base = left.new_zeros(0)

    def row(self, r: int) -> None:
        reach, net = self.reach, self.net
        rows = self.seen[:, :, r : r + reach]
        base = self.seen.new_zeros(len(rows), self.above.shape[0], 1, self.width)
        if r:
            base = base + conv2d(rows, self.above, net.above.bias)
        bias = net.left.bias
        assert bias is not None
        left = conv2d(rows[:, :, :, : self.width + reach - 1], self.left_above) + bias[:, None, None]
        base = base + pad(left[:, :, :, 1:], (1, 0)) if self.width > 1 else base
        self.base = base[:, :, 0].permute(2, 0, 1).contiguous()
        for block in self.blocks:
            block.row(r)

    def logits(self, r: int, c: int, known: Tensor) -> Tensor:
        x = self.base[c]
        for j in range(max(0, self.reach - c), self.reach):
            x = x + self.tables[j][self.ids[:, c - self.reach + j]]
        for block in self.blocks:
            x = block.at(r, c, x)
        for gated in self.head:
            x = gated.at(x)
        return linear(elu(x), *self.last).unsqueeze(1)

    def put(self, r: int, c: int, ids: Tensor) -> None:
        self.ids[:, c] = ids[:, 0]
        self.seen[:, :, r + self.reach, c + self.reach] = one_hot(ids[:, 0], self.seen.shape[1]).to(self.seen.dtype)


class _BlockDecoder:
    def __init__(
        self, block: Block, size: tuple[int, int, int], place: Tensor, condition: Tensor | None, label: Tensor | None
    ) -> None:
        self.block, self.place, self.width = block, place[0].permute(1, 2, 0), size[2]
        self.residual = [_CausalDecoder(gated, size, condition, label) for gated in block.residual]
        if block.attends:
            self.keys_net, self.query_net, self.out_net = (_PointDecoder(g) for g in (block.keys, block.query, block.out))
            attention = block.attention
            self.heads = attention.heads
            self.maps = [_flat(net) for net in (attention.query, attention.key, attention.value)]
            n, height, width = size
            features = self.maps[0][0].shape[0] // self.heads
            self.keys, self.values = (place.new_zeros(n, self.heads, height * width, features) for _ in range(2))
        else:
            self.last = _flat(block.last)

    def row(self, r: int) -> None:
        for walk in self.residual:
            walk.row(r)

    def at(self, r: int, c: int, x: Tensor) -> Tensor:
        out = x
        for walk in self.residual:
            out = walk.at(c, out)
        placed = torch.cat([out, self.place[r, c].expand(len(x), -1)], 1)
        if not self.block.attends:
            return linear(placed, *self.last)
        keys = self.keys_net.at(torch.cat([x, placed], 1))
        found = self._attend(r * self.width + c, self.query_net.at(placed), keys)
        return self.out_net.at(out, found)

    def _attend(self, t: int, query: Tensor, keys: Tensor) -> Tensor:
        q, k, v = (linear(x, *m).unflatten(1, (self.heads, 1, -1)) for m, x in zip(self.maps, (query, keys, keys), strict=True))
        found = scaled_dot_product_attention(q, self.keys[:, :, :t], self.values[:, :, :t]) if t else torch.zeros_like(q)
        self.keys[:, :, t : t + 1], self.values[:, :, t : t + 1] = k, v
        return found.flatten(1)


class _CausalDecoder:
    """A causal `GatedBlock` at one place after the other."""

    def __init__(self, gated: GatedBlock, size: tuple[int, int, int], condition: Tensor | None, label: Tensor | None) -> None:
        n, height, self.width = size
        self.added = gated.condition_bias(condition, label)
        self.convs = [_CausalConv(conv, n, height, self.width) for conv in (gated.first, gated.second)]

    def row(self, r: int) -> None:
        added = self.added
        if added is not None and added.shape[2] > 1:
            added = added[:, :, r : r + 1]
        self.convs[0].row(r, None)
        self.convs[1].row(r, added)

    def at(self, c: int, x: Tensor) -> Tensor:
        h = elu(self.convs[0].at(c, elu(x)))
        return glu(self.convs[1].at(c, h), 1) + x


class _CausalConv:
    """A causal convolution: what the rows above give, once per row; what the places to the left give, at each place."""

    def __init__(self, conv: WeightNormConv, n: int, height: int, width: int) -> None:
        weight = conv.masked_weight()
        self.reach, self.width, self.bias = conv.kernel_size[1] // 2, width, conv.bias
        self.above = weight[:, :, :-1]
        self.left = weight[:, :, -1, : self.reach].permute(2, 1, 0).flatten(0, 1).contiguous()
        rows = conv.kernel_size[0] - 1
        self.seen = weight.new_zeros(n, conv.in_channels, height + rows, width + 2 * self.reach)
        self.here = weight.new_zeros(n, width + self.reach, conv.in_channels)
        self.base = weight.new_zeros(0)

    def row(self, r: int, added: Tensor | None) -> None:
        rows = self.above.shape[2]
        if r:
            self.seen[:, :, r + rows - 1, self.reach : self.reach + self.width] = self.here[:, self.reach :].transpose(1, 2)
            self.here.zero_()
        base = conv2d(self.seen[:, :, r : r + rows], self.above, self.bias)
        base = base if added is None else base + added
        self.base = base[:, :, 0].permute(2, 0, 1).contiguous()

    def at(self, c: int, x: Tensor) -> Tensor:
        self.here[:, c + self.reach] = x
        return torch.addmm(self.base[c], self.here[:, c : c + self.reach].flatten(1), self.left)


class _PointDecoder:
    """A `GatedBlock` of one pixel, for vectors."""

    def __init__(self, gated: GatedBlock) -> None:
        self.first, self.second = _flat(gated.first), _flat(gated.second)
        self.aside = None if gated.auxiliary is None else _flat(gated.auxiliary)

    def at(self, x: Tensor, aside: Tensor | None = None) -> Tensor:
        h = linear(elu(x), *self.first)
        if self.aside is not None and aside is not None:
            h = h + linear(elu(aside), *self.aside)
        return glu(linear(elu(h), *self.second), 1) + x


def _flat(conv: WeightNormConv) -> tuple[Tensor, Tensor | None]:
    """A convolution of one pixel as a matrix, and its bias."""
    return conv.masked_weight().flatten(1), conv.bias
