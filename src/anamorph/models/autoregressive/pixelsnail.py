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
from torch.nn.functional import elu, glu, one_hot, pad, scaled_dot_product_attention

from anamorph.core.config import check
from anamorph.core.errors import UserError
from anamorph.core.random import Random
from anamorph.core.space import Codes, Space
from anamorph.models.autoregressive.common import Autoregressive, require_grid
from anamorph.models.autoregressive.conditioning import Conditioning
from anamorph.models.autoregressive.pixelsnail_decoder import PixelSNAILDecoder
from anamorph.nn.incremental import IncrementalDecoder
from anamorph.nn.masked import WeightNormConv, dropout

__all__ = ["Block", "CausalAttention", "GatedBlock", "PixelSNAIL", "PixelSNAILConfig"]


@dataclass(frozen=True)
class PixelSNAILConfig:
    """Sizes; the defaults are small. VQ-VAE-2's code has width 256, inner 256, 4 blocks of 4."""

    width: int = 64
    """Channels of the features, a multiple of twice the heads."""
    residual_channels: int = 64
    """Channels inside a residual block."""
    kernel_size: int = 5
    """Side of the causal kernels, odd."""
    blocks: int = 2
    """Each of residual blocks and, where it attends, one attention."""
    residual_blocks: int = 4
    """Residual blocks in each block."""
    output_blocks: int = 0
    """Residual blocks of one pixel before the logits."""
    attention_max_positions: int = 1024
    """Attend to all codes before, on grids of at most so many: it costs the square of their number."""
    attention_heads: int = 8
    """Of the attention."""
    condition_channels: int = 32
    """Channels of what a coarser level of codes tells, where there is one."""
    condition_blocks: int = 3
    """Residual blocks that read the coarser level."""
    dropout: float = 0.1
    """Share of values left out inside residual blocks, while training."""
    num_classes: int = 0
    """Draw codes of a class: how many there are; 0: without classes."""
    label: str = "class"
    """The label that holds the class."""
    learning_rate: float = 0.0003
    """Adam's learning rate."""

    def __post_init__(self) -> None:
        check(
            self,
            "at least 1",
            "width",
            "residual_channels",
            "blocks",
            "residual_blocks",
            "attention_heads",
            "condition_channels",
            "condition_blocks",
        )
        check(self, "above 0", "learning_rate")
        check(self, "at least 0", "output_blocks", "num_classes", "attention_max_positions")
        check(self, "in [0, 1)", "dropout")
        if self.kernel_size % 2 == 0 or self.kernel_size < 3:
            raise UserError(f"kernels have odd sides from 3 on, got {self.kernel_size}")
        if self.attention_max_positions and self.width % (2 * self.attention_heads):
            raise UserError(f"width must be a multiple of twice the heads, got {self.width} and {self.attention_heads}")


class GatedBlock(nn.Module):
    """[B, C, H, W] to the same: x + glu(conv(elu(conv(elu(x)) + aside)) + told)."""

    def __init__(
        self,
        width: int,
        inner: int,
        kernel: int,
        dropout_rate: float,
        causal: bool = False,
        auxiliary_channels: int = 0,
        condition_channels: int = 0,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        reach = kernel // 2
        edges = (reach, reach, kernel - 1 if causal else reach, 0 if causal else reach)
        mask = None
        if causal:
            mask = torch.ones(1, 1, kernel, kernel)
            mask[:, :, -1, reach:] = 0  # its own place, and what is to the right of it
        self.dropout_rate = dropout_rate
        self.first = WeightNormConv(width, inner, (kernel, kernel), edges, mask)
        self.second = WeightNormConv(inner, 2 * width, (kernel, kernel), edges, mask)
        self.auxiliary = WeightNormConv(auxiliary_channels, inner) if auxiliary_channels else None
        self.condition = WeightNormConv(condition_channels, 2 * width, bias=False) if condition_channels else None
        self.label = nn.Embedding(num_classes, 2 * width) if num_classes else None

    def forward(
        self,
        x: Tensor,
        auxiliary: Tensor | None = None,
        condition: Tensor | None = None,
        label: Tensor | None = None,
        random: Random | None = None,
    ) -> Tensor:
        h = self.first(elu(x))
        if self.auxiliary is not None:
            assert auxiliary is not None
            h = h + self.auxiliary(elu(auxiliary))
        h = self.second(dropout(elu(h), self.dropout_rate, random))
        added = self.condition_bias(condition, label)
        return glu(h if added is None else h + added, 1) + x

    def condition_bias(self, condition: Tensor | None, label: Tensor | None) -> Tensor | None:
        """What a coarser level and a class add before the gate."""
        total = None
        if self.condition is not None and condition is not None:
            total = self.condition(condition)
        if self.label is not None and label is not None:
            here = self.label(label)[:, :, None, None]
            total = here if total is None else total + here
        return total


class CausalAttention(nn.Module):
    """Each place looks at all places before it, itself not included: [B, query, H, W], [B, keys, H, W] -> [B, width, H, W]."""

    def __init__(self, query: int, keys: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (
            WeightNormConv(query, width),
            WeightNormConv(keys, width),
            WeightNormConv(keys, width),
        )

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        # Place t looks at 0 .. t - 1: without the first query and the last key that is the usual triangle. The first place has
        # nothing to look at, and finds zero.
        q, k, v = (self._split(net(x)) for net, x in ((self.query, query), (self.key, keys), (self.value, keys)))
        found = scaled_dot_product_attention(q[:, :, 1:], k[:, :, :-1], v[:, :, :-1], is_causal=True)
        return pad(found, (0, 0, 1, 0)).transpose(2, 3).flatten(1, 2).unflatten(2, query.shape[2:])

    def _split(self, x: Tensor) -> Tensor:
        """[B, width, H, W] to [B, heads, H * W, width / heads]."""
        return x.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)


class Block(nn.Module):
    """Residual blocks, and attention from what they have found to that and what they began with; or a last convolution."""

    def __init__(self, c: PixelSNAILConfig, attends: bool, condition_channels: int, classes: int) -> None:
        super().__init__()
        self.residual = cast(
            Sequence[GatedBlock],
            nn.ModuleList(
                GatedBlock(
                    c.width,
                    c.residual_channels,
                    c.kernel_size,
                    c.dropout,
                    causal=True,
                    condition_channels=condition_channels,
                    num_classes=classes,
                )
                for _ in range(c.residual_blocks)
            ),
        )
        self.attends = attends
        if attends:
            self.keys = GatedBlock(2 * c.width + 2, c.width, 1, c.dropout)
            self.query = GatedBlock(c.width + 2, c.width, 1, c.dropout)
            self.attention = CausalAttention(c.width + 2, 2 * c.width + 2, c.width // 2, c.attention_heads)
            self.out = GatedBlock(c.width, c.width, 1, c.dropout, auxiliary_channels=c.width // 2)
        else:
            self.last = WeightNormConv(c.width + 2, c.width)

    def forward(
        self, x: Tensor, place: Tensor, condition: Tensor | None, label: Tensor | None, random: Random | None
    ) -> Tensor:
        out = x
        for block in self.residual:
            out = block(out, None, condition, label, random)
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

    def __init__(self, spaces: Sequence[Space], conditions: Sequence[Space], config: PixelSNAILConfig) -> None:
        super().__init__()
        self.space, self.config, self.learning_rate = require_grid(spaces), config, config.learning_rate
        self.spaces, self.conditions = tuple(spaces), tuple(conditions)
        maps, height, width = self.space.shape
        if maps != 1:
            raise UserError(f"PixelSNAIL is for one map of codes, got {self.space}: use pixelcnn, which takes several")
        c, k, reach = config, self.space.num_codes or 0, config.kernel_size // 2
        self.above = WeightNormConv(k, c.width, (reach, c.kernel_size), (reach, reach, reach - 1, 0))
        self.left = WeightNormConv(k, c.width, (reach + 1, reach), (reach - 1, 0, reach, 0))
        self.conditioning = Conditioning(
            self.space,
            conditions,
            lambda inputs: nn.Sequential(
                WeightNormConv(inputs, c.condition_channels, (3, 3), (1, 1, 1, 1)),
                *(GatedBlock(c.condition_channels, c.condition_channels, 3, c.dropout) for _ in range(c.condition_blocks)),
            ),
        )
        told = c.condition_channels if self.conditioning.grids else 0
        self.blocks = cast(
            Sequence[Block],
            nn.ModuleList(
                Block(c, height * width <= c.attention_max_positions, told, self.conditioning.num_classes)
                for _ in range(c.blocks)
            ),
        )
        self.head = cast(
            Sequence[GatedBlock],
            nn.ModuleList(GatedBlock(c.width, c.residual_channels, 1, c.dropout) for _ in range(c.output_blocks)),
        )
        self.last = WeightNormConv(c.width, k)
        rows, columns = (torch.arange(n) / n - 0.5 for n in (height, width))
        grid = torch.stack([rows[:, None].expand(-1, width), columns[None].expand(height, -1)])
        self.register_buffer("place", grid[None], persistent=False)

    def logits(self, ids: Tensor, condition: Codes, random: Random | None = None) -> Tensor:
        x = one_hot(ids[:, 0], self.space.num_codes or 0).movedim(-1, 1).float()
        above = pad(self.above(x), (0, 0, 1, 0))[:, :, :-1]  # what is seen of the rows above: one row further down
        left = pad(self.left(x), (1, 0, 0, 0))[:, :, :, :-1]
        out, place = above + left, self.place.expand(len(x), -1, -1, -1)
        told, label = self.conditioning(condition), self.conditioning.label(condition)
        for block in self.blocks:
            out = block(out, place.to(out.dtype), told, label, random)
        for gated in self.head:
            out = gated(out, random=random)
        return self.last(elu(out)).movedim(1, -1).unsqueeze(1)

    def decoder(self, n: int, condition: Codes) -> IncrementalDecoder:
        return PixelSNAILDecoder(self, n, condition)
