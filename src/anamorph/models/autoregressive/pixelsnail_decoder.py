"""Incremental decoding of PixelSNAIL, which reuses what was computed for earlier positions.

What the rows above contribute to a row is computed once, at its beginning. At a position, matrix products over the few
positions to the left are left, and one query to the cached keys.
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
    """Computes `PixelSNAIL.logits` position by position, as an `IncrementalDecoder`."""

    def __init__(self, net: PixelSNAIL, n: int, condition: Codes) -> None:
        _, self.height, self.width = net.space.shape
        self.net, self.radius = net, net.config.kernel_size // 2
        size = (n, self.height, self.width)
        features, label = net.conditioning(condition), net.conditioning.label(condition)
        self.above, left = net.above.masked_weight(), net.left.masked_weight()
        self.left_above, self.tables = left[:, :, :-1], left[:, :, -1].permute(2, 1, 0).contiguous()  # [radius, K, C]
        self.history = left.new_zeros(n, net.space.num_codes or 0, self.height + self.radius, self.width + 2 * self.radius)
        self.ids = torch.zeros(n, self.width, dtype=torch.long, device=left.device)
        self.blocks = [_BlockDecoder(block, size, net.position, features, label) for block in net.blocks]
        self.head, self.last = [_PointDecoder(gated) for gated in net.head], _flat(net.last)
        self.base = left.new_zeros(0)

    def row(self, r: int) -> None:
        radius, net = self.radius, self.net
        rows = self.history[:, :, r : r + radius]
        base = self.history.new_zeros(len(rows), self.above.shape[0], 1, self.width)
        if r:
            base = base + conv2d(rows, self.above, net.above.bias)
        bias = net.left.bias
        assert bias is not None
        left = conv2d(rows[:, :, :, : self.width + radius - 1], self.left_above) + bias[:, None, None]
        base = base + pad(left[:, :, :, 1:], (1, 0)) if self.width > 1 else base
        self.base = base[:, :, 0].permute(2, 0, 1).contiguous()
        for block in self.blocks:
            block.row(r)

    def logits(self, r: int, c: int, known: Tensor) -> Tensor:
        x = self.base[c]
        for j in range(max(0, self.radius - c), self.radius):
            x = x + self.tables[j][self.ids[:, c - self.radius + j]]
        for block in self.blocks:
            x = block.at(r, c, x)
        for gated in self.head:
            x = gated.at(x)
        return linear(elu(x), *self.last).unsqueeze(1)

    def put(self, r: int, c: int, ids: Tensor) -> None:
        self.ids[:, c] = ids[:, 0]
        self.history[:, :, r + self.radius, c + self.radius] = one_hot(ids[:, 0], self.history.shape[1]).to(self.history.dtype)


class _BlockDecoder:
    def __init__(
        self, block: Block, size: tuple[int, int, int], position: Tensor, condition: Tensor | None, label: Tensor | None
    ) -> None:
        self.block, self.position, self.width = block, position[0].permute(1, 2, 0), size[2]
        self.residual = [_CausalDecoder(gated, size, condition, label) for gated in block.residual]
        if block.attends:
            self.keys_net, self.query_net, self.out_net = (_PointDecoder(g) for g in (block.keys, block.query, block.out))
            attention = block.attention
            self.heads = attention.heads
            self.maps = [_flat(net) for net in (attention.query, attention.key, attention.value)]
            n, height, width = size
            features = self.maps[0][0].shape[0] // self.heads
            self.keys, self.values = (position.new_zeros(n, self.heads, height * width, features) for _ in range(2))
        else:
            self.last = _flat(block.last)

    def row(self, r: int) -> None:
        for decoder in self.residual:
            decoder.row(r)

    def at(self, r: int, c: int, x: Tensor) -> Tensor:
        out = x
        for decoder in self.residual:
            out = decoder.at(c, out)
        with_position = torch.cat([out, self.position[r, c].expand(len(x), -1)], 1)
        if not self.block.attends:
            return linear(with_position, *self.last)
        keys = self.keys_net.at(torch.cat([x, with_position], 1))
        attended = self._attend(r * self.width + c, self.query_net.at(with_position), keys)
        return self.out_net.at(out, attended)

    def _attend(self, t: int, query: Tensor, keys: Tensor) -> Tensor:
        q, k, v = (linear(x, *m).unflatten(1, (self.heads, 1, -1)) for m, x in zip(self.maps, (query, keys, keys), strict=True))
        attended = scaled_dot_product_attention(q, self.keys[:, :, :t], self.values[:, :, :t]) if t else torch.zeros_like(q)
        self.keys[:, :, t : t + 1], self.values[:, :, t : t + 1] = k, v
        return attended.flatten(1)


class _CausalDecoder:
    """Evaluates a causal `GatedBlock` position by position."""

    def __init__(self, gated: GatedBlock, size: tuple[int, int, int], condition: Tensor | None, label: Tensor | None) -> None:
        n, height, self.width = size
        self.bias = gated.condition_bias(condition, label)
        self.convs = [_CausalConv(conv, n, height, self.width) for conv in (gated.first, gated.second)]

    def row(self, r: int) -> None:
        bias = self.bias
        if bias is not None and bias.shape[2] > 1:
            bias = bias[:, :, r : r + 1]
        self.convs[0].row(r, None)
        self.convs[1].row(r, bias)

    def at(self, c: int, x: Tensor) -> Tensor:
        h = elu(self.convs[0].at(c, elu(x)))
        return glu(self.convs[1].at(c, h), 1) + x


class _CausalConv:
    """Evaluates a causal convolution: over the rows above once per row, over the positions to the left at each position."""

    def __init__(self, conv: WeightNormConv, n: int, height: int, width: int) -> None:
        weight = conv.masked_weight()
        self.radius, self.width, self.bias = conv.kernel_size[1] // 2, width, conv.bias
        self.above = weight[:, :, :-1]
        self.left = weight[:, :, -1, : self.radius].permute(2, 1, 0).flatten(0, 1).contiguous()
        rows = conv.kernel_size[0] - 1
        self.history = weight.new_zeros(n, conv.in_channels, height + rows, width + 2 * self.radius)
        self.current = weight.new_zeros(n, width + self.radius, conv.in_channels)
        self.base = weight.new_zeros(0)

    def row(self, r: int, condition_bias: Tensor | None) -> None:
        rows = self.above.shape[2]
        if r:
            self.history[:, :, r + rows - 1, self.radius : self.radius + self.width] = self.current[:, self.radius :].transpose(
                1, 2
            )
            self.current.zero_()
        base = conv2d(self.history[:, :, r : r + rows], self.above, self.bias)
        base = base if condition_bias is None else base + condition_bias
        self.base = base[:, :, 0].permute(2, 0, 1).contiguous()

    def at(self, c: int, x: Tensor) -> Tensor:
        self.current[:, c + self.radius] = x
        return torch.addmm(self.base[c], self.current[:, c : c + self.radius].flatten(1), self.left)


class _PointDecoder:
    """Evaluates a 1x1 `GatedBlock` on vectors."""

    def __init__(self, gated: GatedBlock) -> None:
        self.first, self.second = _flat(gated.first), _flat(gated.second)
        self.auxiliary = None if gated.auxiliary is None else _flat(gated.auxiliary)

    def at(self, x: Tensor, auxiliary: Tensor | None = None) -> Tensor:
        h = linear(elu(x), *self.first)
        if self.auxiliary is not None and auxiliary is not None:
            h = h + linear(elu(auxiliary), *self.auxiliary)
        return glu(linear(elu(h), *self.second), 1) + x


def _flat(conv: WeightNormConv) -> tuple[Tensor, Tensor | None]:
    """Return the matrix of a 1x1 convolution, and its bias."""
    return conv.masked_weight().flatten(1), conv.bias
