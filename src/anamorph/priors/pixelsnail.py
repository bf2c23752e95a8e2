"""PixelSNAIL: causal convolutions for what is near, and attention for what is far.

Chen, Mishra, Rohaninejad, Abbeel 2017, arXiv:1712.09763; as the priors of VQ-VAE-2 (Razavi et al. 2019, arXiv:1906.00446,
section 3.2), of which the coarse level's attends and the finer ones' are told the coarser codes. Weights, masks and order are
those of the widely used PyTorch code (github.com/rosinality/vq-vae-2-pytorch), so that its checkpoints can be opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, elu, glu, linear, one_hot, pad, scaled_dot_product_attention

from anamorph.core.config import check
from anamorph.core.errors import UserError
from anamorph.core.random import Random
from anamorph.core.space import Codes, Space
from anamorph.nn.masked import NormedConv, dropout
from anamorph.nn.walk import Walk
from anamorph.priors.autoregressive import Autoregressive, grid_of
from anamorph.priors.told import Told

__all__ = ["PixelSNAIL", "PixelSNAILConfig"]


@dataclass(frozen=True)
class PixelSNAILConfig:
    """Sizes; the defaults are small. VQ-VAE-2's code has width 256, inner 256, 4 blocks of 4."""

    width: int = 64
    """Channels of the features, a multiple of twice the heads."""
    inner: int = 64
    """Channels inside a residual block."""
    kernel: int = 5
    """Side of the causal kernels, odd."""
    blocks: int = 2
    """Each of residual blocks and, where it attends, one attention."""
    residual: int = 4
    """Residual blocks in each block."""
    head: int = 0
    """Residual blocks of one pixel before the logits."""
    attend: int = 1024
    """Attend to all codes before, on grids of at most so many: it costs the square of their number."""
    heads: int = 8
    """Of the attention."""
    told: int = 32
    """Channels of what a coarser level of codes tells, where there is one."""
    told_blocks: int = 3
    """Residual blocks that read the coarser level."""
    dropout: float = 0.1
    """Share of values left out inside residual blocks, while training."""
    classes: int = 0
    """Draw codes of a class: how many there are; 0: without classes."""
    label: str = "class"
    """The label that holds the class."""
    rate: float = 0.0003
    """Adam's learning rate."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "width", "inner", "blocks", "residual", "heads", "told", "told_blocks")
        check(self, "above 0", "rate")
        check(self, "at least 0", "head", "classes", "attend")
        check(self, "in [0, 1)", "dropout")
        if self.kernel % 2 == 0 or self.kernel < 3:
            raise UserError(f"kernels have odd sides from 3 on, got {self.kernel}")
        if self.attend and self.width % (2 * self.heads):
            raise UserError(f"width must be a multiple of twice the heads, got {self.width} and {self.heads}")


class _Gated(nn.Module):
    """[B, C, H, W] to the same: x + glu(conv(elu(conv(elu(x)) + aside)) + told)."""

    def __init__(
        self,
        width: int,
        inner: int,
        kernel: int,
        rate: float,
        causal: bool = False,
        aside: int = 0,
        told: int = 0,
        classes: int = 0,
    ) -> None:
        super().__init__()
        reach = kernel // 2
        edges = (reach, reach, kernel - 1 if causal else reach, 0 if causal else reach)
        mask = None
        if causal:
            mask = torch.ones(1, 1, kernel, kernel)
            mask[:, :, -1, reach:] = 0  # its own place, and what is to the right of it
        self.rate = rate
        self.first = NormedConv(width, inner, (kernel, kernel), edges, mask)
        self.second = NormedConv(inner, 2 * width, (kernel, kernel), edges, mask)
        self.aside = NormedConv(aside, inner) if aside else None
        self.told = NormedConv(told, 2 * width, bias=False) if told else None
        self.label = nn.Embedding(classes, 2 * width) if classes else None

    def forward(
        self,
        x: Tensor,
        aside: Tensor | None = None,
        told: Tensor | None = None,
        label: Tensor | None = None,
        random: Random | None = None,
    ) -> Tensor:
        h = self.first(elu(x))
        if self.aside is not None:
            assert aside is not None
            h = h + self.aside(elu(aside))
        h = self.second(dropout(elu(h), self.rate, random))
        added = self.added(told, label)
        return glu(h if added is None else h + added, 1) + x

    def added(self, told: Tensor | None, label: Tensor | None) -> Tensor | None:
        """What a coarser level and a class add before the gate."""
        total = None
        if self.told is not None and told is not None:
            total = self.told(told)
        if self.label is not None and label is not None:
            here = self.label(label)[:, :, None, None]
            total = here if total is None else total + here
        return total


class _Attention(nn.Module):
    """Each place looks at all places before it, itself not included: [B, query, H, W], [B, keys, H, W] -> [B, width, H, W]."""

    def __init__(self, query: int, keys: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = NormedConv(query, width), NormedConv(keys, width), NormedConv(keys, width)

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        # Place t looks at 0 .. t - 1: without the first query and the last key that is the usual triangle. The first place has
        # nothing to look at, and finds zero.
        q, k, v = (self._split(net(x)) for net, x in ((self.query, query), (self.key, keys), (self.value, keys)))
        found = scaled_dot_product_attention(q[:, :, 1:], k[:, :, :-1], v[:, :, :-1], is_causal=True)
        return pad(found, (0, 0, 1, 0)).transpose(2, 3).flatten(1, 2).unflatten(2, query.shape[2:])

    def _split(self, x: Tensor) -> Tensor:
        """[B, width, H, W] to [B, heads, H * W, width / heads]."""
        return x.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)


class _Block(nn.Module):
    """Residual blocks, and attention from what they have found to that and what they began with; or a last convolution."""

    def __init__(self, c: PixelSNAILConfig, attends: bool, told: int, classes: int) -> None:
        super().__init__()
        self.residual = cast(
            Sequence[_Gated],
            nn.ModuleList(
                _Gated(c.width, c.inner, c.kernel, c.dropout, causal=True, told=told, classes=classes)
                for _ in range(c.residual)
            ),
        )
        self.attends = attends
        if attends:
            self.keys = _Gated(2 * c.width + 2, c.width, 1, c.dropout)
            self.query = _Gated(c.width + 2, c.width, 1, c.dropout)
            self.attention = _Attention(c.width + 2, 2 * c.width + 2, c.width // 2, c.heads)
            self.out = _Gated(c.width, c.width, 1, c.dropout, aside=c.width // 2)
        else:
            self.last = NormedConv(c.width + 2, c.width)

    def forward(self, x: Tensor, place: Tensor, told: Tensor | None, label: Tensor | None, random: Random | None) -> Tensor:
        out = x
        for block in self.residual:
            out = block(out, None, told, label, random)
        placed = torch.cat([out, place], 1)
        if not self.attends:
            last: Tensor = self.last(placed)
            return last
        keys = self.keys(torch.cat([x, placed], 1), random=random)
        found = self.attention(self.query(placed, random=random), keys)
        mixed: Tensor = self.out(out, found, random=random)
        return mixed


class PixelSNAIL(Autoregressive):
    """log p(ids) of ids [B, 1, H, W], given a class and coarser levels of codes, where there are such."""

    place: Tensor

    def __init__(self, spaces: Sequence[Space], given: Sequence[Space], config: PixelSNAILConfig) -> None:
        super().__init__()
        self.space, self.config, self.rate = grid_of(spaces), config, config.rate
        self.spaces, self.given = tuple(spaces), tuple(given)
        maps, height, width = self.space.shape
        if maps != 1:
            raise UserError(f"PixelSNAIL is for one map of codes, got {self.space}: use pixelcnn, which takes several")
        c, k, reach = config, self.space.vocabulary or 0, config.kernel // 2
        self.above = NormedConv(k, c.width, (reach, c.kernel), (reach, reach, reach - 1, 0))
        self.left = NormedConv(k, c.width, (reach + 1, reach), (reach - 1, 0, reach, 0))
        self.told = Told(
            self.space,
            given,
            lambda inputs: nn.Sequential(
                NormedConv(inputs, c.told, (3, 3), (1, 1, 1, 1)),
                *(_Gated(c.told, c.told, 3, c.dropout) for _ in range(c.told_blocks)),
            ),
        )
        told = c.told if self.told.grids else 0
        self.blocks = cast(
            Sequence[_Block],
            nn.ModuleList(_Block(c, height * width <= c.attend, told, self.told.classes) for _ in range(c.blocks)),
        )
        self.head = cast(Sequence[_Gated], nn.ModuleList(_Gated(c.width, c.inner, 1, c.dropout) for _ in range(c.head)))
        self.last = NormedConv(c.width, k)
        rows, columns = (torch.arange(n) / n - 0.5 for n in (height, width))
        grid = torch.stack([rows[:, None].expand(-1, width), columns[None].expand(height, -1)])
        self.register_buffer("place", grid[None], persistent=False)

    def logits(self, ids: Tensor, given: Codes, random: Random | None = None) -> Tensor:
        x = one_hot(ids[:, 0], self.space.vocabulary or 0).movedim(-1, 1).float()
        above = pad(self.above(x), (0, 0, 1, 0))[:, :, :-1]  # what is seen of the rows above: one row further down
        left = pad(self.left(x), (1, 0, 0, 0))[:, :, :, :-1]
        out, place = above + left, self.place.expand(len(x), -1, -1, -1)
        told, label = self.told(given), self.told.label(given)
        for block in self.blocks:
            out = block(out, place.to(out.dtype), told, label, random)
        for gated in self.head:
            out = gated(out, random=random)
        return self.last(elu(out)).movedim(1, -1).unsqueeze(1)

    def walk(self, n: int, given: Codes) -> Walk:
        return _PixelSNAILWalk(self, n, given)


class _PixelSNAILWalk:
    """`PixelSNAIL.logits` at one place after the other. What a row is told by the rows above, it is told at its beginning;
    at a place, what remains are products of matrices over the few places to the left, and one query to the kept keys."""

    def __init__(self, net: PixelSNAIL, n: int, given: Codes) -> None:
        _, self.height, self.width = net.space.shape
        self.net, self.reach = net, net.config.kernel // 2
        size = (n, self.height, self.width)
        told, label = net.told(given), net.told.label(given)
        self.above, left = net.above.masked(), net.left.masked()
        self.left_above, self.tables = left[:, :, :-1], left[:, :, -1].permute(2, 1, 0).contiguous()  # [reach, K, C]
        self.seen = left.new_zeros(n, net.space.vocabulary or 0, self.height + self.reach, self.width + 2 * self.reach)
        self.ids = torch.zeros(n, self.width, dtype=torch.long, device=left.device)
        self.blocks = [_BlockWalk(block, size, net.place, told, label) for block in net.blocks]
        self.head, self.last = [_PointWalk(gated) for gated in net.head], _flat(net.last)
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


class _BlockWalk:
    def __init__(
        self, block: _Block, size: tuple[int, int, int], place: Tensor, told: Tensor | None, label: Tensor | None
    ) -> None:
        self.block, self.place, self.width = block, place[0].permute(1, 2, 0), size[2]
        self.residual = [_CausalWalk(gated, size, told, label) for gated in block.residual]
        if block.attends:
            self.keys_net, self.query_net, self.out_net = (_PointWalk(g) for g in (block.keys, block.query, block.out))
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


class _CausalWalk:
    """A causal `_Gated` at one place after the other."""

    def __init__(self, gated: _Gated, size: tuple[int, int, int], told: Tensor | None, label: Tensor | None) -> None:
        n, height, self.width = size
        self.added = gated.added(told, label)
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

    def __init__(self, conv: NormedConv, n: int, height: int, width: int) -> None:
        weight = conv.masked()
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


class _PointWalk:
    """A `_Gated` of one pixel, for vectors."""

    def __init__(self, gated: _Gated) -> None:
        self.first, self.second = _flat(gated.first), _flat(gated.second)
        self.aside = None if gated.aside is None else _flat(gated.aside)

    def at(self, x: Tensor, aside: Tensor | None = None) -> Tensor:
        h = linear(elu(x), *self.first)
        if self.aside is not None and aside is not None:
            h = h + linear(elu(aside), *self.aside)
        return glu(linear(elu(h), *self.second), 1) + x


def _flat(conv: NormedConv) -> tuple[Tensor, Tensor | None]:
    """A convolution of one pixel as a matrix, and its bias."""
    return conv.masked().flatten(1), conv.bias
