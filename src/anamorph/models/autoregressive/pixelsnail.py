"""PixelSNAIL: each code given those before it, by causal convolutions nearby and attention far away.

Chen, Mishra, Rohaninejad, Abbeel 2017, "PixelSNAIL: An Improved Autoregressive Generative Model", arXiv:1712.09763, section 2
and figure 2; as the priors of VQ-VAE-2 (Razavi et al. 2019, arXiv:1906.00446, section 3.2), where the coarsest level has
attention, and finer levels are conditioned on coarser codes. Weights, masks and order are those of the widely used PyTorch
code (github.com/rosinality/vq-vae-2-pytorch), so that its checkpoints can be opened.
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
    """Sizes. The defaults are small: the code above has width 256, residual_channels 256 and 4 blocks of 4 residual blocks."""

    width: int = 64
    """Features; with attention, a multiple of twice the number of heads."""
    residual_channels: int = 64
    """Channels inside a residual block."""
    kernel_size: int = 5
    """Side of the causal kernels, odd and at least 3."""
    blocks: int = 2
    """Number of blocks of residual blocks, followed by attention on small grids."""
    residual_blocks: int = 4
    """Residual blocks in each block."""
    output_blocks: int = 0
    """1x1 residual blocks before the logits."""
    attention_max_positions: int = 1024
    """Most codes on a grid with attention, whose cost grows with the square of their number; 0: no attention."""
    attention_heads: int = 8
    """Heads of the attention."""
    condition_channels: int = 32
    """Channels of the features of coarser codes on which it is conditioned, if there are any."""
    condition_blocks: int = 3
    """Residual blocks that read coarser codes."""
    dropout: float = 0.1
    """Dropout rate inside residual blocks, while training."""
    num_classes: int = 0
    """Number of classes on which it is conditioned; 0: none."""
    label: str = "class"
    """Name of the label that holds the class."""
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
            raise UserError(f"kernel_size must be odd and at least 3, got {self.kernel_size}")
        if self.attention_max_positions and self.width % (2 * self.attention_heads):
            raise UserError(
                f"width must be a multiple of twice the attention heads, got {self.width} and {self.attention_heads}"
            )


class GatedBlock(nn.Module):
    """A gated residual block on [B, C, H, W]: x + glu(conv(elu(conv(elu(x)) + auxiliary)) + condition).

    Args:
        width: C.
        inner: channels between the two convolutions.
        kernel: side of the kernels.
        dropout_rate: between the convolutions, while training.
        causal: whether a position sees only those before it.
        auxiliary_channels: of a second input; 0 for none.
        condition_channels: of features on which it is conditioned; 0 for none.
        num_classes: of a label; 0 for none.
    """

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
        radius = kernel // 2
        padding = (radius, radius, kernel - 1 if causal else radius, 0 if causal else radius)
        mask = None
        if causal:
            mask = torch.ones(1, 1, kernel, kernel)
            mask[:, :, -1, radius:] = 0  # its own position, and those to the right
        self.dropout_rate = dropout_rate
        self.first = WeightNormConv(width, inner, (kernel, kernel), padding, mask)
        self.second = WeightNormConv(inner, 2 * width, (kernel, kernel), padding, mask)
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
        bias = self.condition_bias(condition, label)
        return glu(h if bias is None else h + bias, 1) + x

    def condition_bias(self, condition: Tensor | None, label: Tensor | None) -> Tensor | None:
        """Return what the condition and the class add before the gate; None without them."""
        total = None
        if self.condition is not None and condition is not None:
            total = self.condition(condition)
        if self.label is not None and label is not None:
            embedded = self.label(label)[:, :, None, None]
            total = embedded if total is None else total + embedded
        return total


class CausalAttention(nn.Module):
    """Causal attention: each position attends to all before it, but not to itself.

    Queries [B, query, H, W] and keys [B, keys, H, W] give [B, width, H, W].
    """

    def __init__(self, query: int, keys: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (
            WeightNormConv(query, width),
            WeightNormConv(keys, width),
            WeightNormConv(keys, width),
        )

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        # Position t attends to 0 .. t - 1: without the first query and the last key, that is the usual triangular mask. The
        # first position attends to nothing, which gives zeros.
        q, k, v = (self._split(net(x)) for net, x in ((self.query, query), (self.key, keys), (self.value, keys)))
        attended = scaled_dot_product_attention(q[:, :, 1:], k[:, :, :-1], v[:, :, :-1], is_causal=True)
        return pad(attended, (0, 0, 1, 0)).transpose(2, 3).flatten(1, 2).unflatten(2, query.shape[2:])

    def _split(self, x: Tensor) -> Tensor:
        """Split [B, width, H, W] into heads [B, heads, H * W, width / heads]."""
        return x.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)


class Block(nn.Module):
    """Causal residual blocks, followed by attention over their input and output, or by a 1x1 convolution."""

    def __init__(self, c: PixelSNAILConfig, attends: bool, condition_channels: int, num_classes: int) -> None:
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
                    num_classes=num_classes,
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
        self, x: Tensor, position: Tensor, condition: Tensor | None, label: Tensor | None, random: Random | None
    ) -> Tensor:
        out = x
        for block in self.residual:
            out = block(out, None, condition, label, random)
        with_position = torch.cat([out, position], 1)
        if not self.attends:
            last: Tensor = self.last(with_position)
            return last
        keys = self.keys(torch.cat([x, with_position], 1), random=random)
        attended = self.attention(self.query(with_position, random=random), keys)
        mixed: Tensor = self.out(out, attended, random=random)
        return mixed


class PixelSNAIL(Autoregressive):
    """A distribution over codes [B, 1, H, W], conditioned on a class and on coarser codes, if there are any."""

    position: Tensor

    def __init__(self, spaces: Sequence[Space], conditions: Sequence[Space], config: PixelSNAILConfig) -> None:
        super().__init__()
        self.space, self.config, self.learning_rate = require_grid(spaces), config, config.learning_rate
        self.spaces, self.conditions = tuple(spaces), tuple(conditions)
        maps, height, width = self.space.shape
        if maps != 1:
            raise UserError(f"pixelsnail is a prior over one map of codes, got {self.space}: use pixelcnn, which takes several")
        c, k, radius = config, self.space.num_codes or 0, config.kernel_size // 2
        self.above = WeightNormConv(k, c.width, (radius, c.kernel_size), (radius, radius, radius - 1, 0))
        self.left = WeightNormConv(k, c.width, (radius + 1, radius), (radius - 1, 0, radius, 0))
        self.conditioning = Conditioning(
            self.space,
            conditions,
            lambda inputs: nn.Sequential(
                WeightNormConv(inputs, c.condition_channels, (3, 3), (1, 1, 1, 1)),
                *(GatedBlock(c.condition_channels, c.condition_channels, 3, c.dropout) for _ in range(c.condition_blocks)),
            ),
        )
        channels = c.condition_channels if self.conditioning.grids else 0
        self.blocks = cast(
            Sequence[Block],
            nn.ModuleList(
                Block(c, height * width <= c.attention_max_positions, channels, self.conditioning.num_classes)
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
        self.register_buffer("position", grid[None], persistent=False)

    def logits(self, ids: Tensor, condition: Codes, random: Random | None = None) -> Tensor:
        x = one_hot(ids[:, 0], self.space.num_codes or 0).movedim(-1, 1).float()
        above = pad(self.above(x), (0, 0, 1, 0))[:, :, :-1]  # moved one row down
        left = pad(self.left(x), (1, 0, 0, 0))[:, :, :, :-1]
        out, position = above + left, self.position.expand(len(x), -1, -1, -1)
        features, label = self.conditioning(condition), self.conditioning.label(condition)
        for block in self.blocks:
            out = block(out, position.to(out.dtype), features, label, random)
        for gated in self.head:
            out = gated(out, random=random)
        return self.last(elu(out)).movedim(1, -1).unsqueeze(1)

    def decoder(self, n: int, condition: Codes) -> IncrementalDecoder:
        return PixelSNAILDecoder(self, n, condition)
