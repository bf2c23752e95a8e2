"""The gated PixelCNN: each code from those above and to the left of it, by masked convolutions.

van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders", arXiv:1606.05328; as the prior of a VQ-VAE:
van den Oord et al. 2017, arXiv:1711.00937, section 3.3. Several maps of codes are taken like the colours of a picture: at a
place, each sees those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from anamorph.core.config import check
from anamorph.core.errors import UserError
from anamorph.core.random import Random
from anamorph.core.space import Codes, Space
from anamorph.models.autoregressive.common import Autoregressive, require_grid
from anamorph.models.autoregressive.conditioning import Conditioning
from anamorph.nn.convolutional import ResidualBlock
from anamorph.nn.gated import GatedNet
from anamorph.nn.incremental import IncrementalDecoder

__all__ = ["PixelCNN", "PixelCNNConfig"]


@dataclass(frozen=True)
class PixelCNNConfig:
    """Sizes."""

    width: int = 64
    """Channels of each stack; if need be, some more, so that each code map or colour has as many."""
    layers: int = 12
    """Of gated convolutions."""
    first_kernel_size: int = 7
    """Side of the first layer's kernel."""
    kernel_size: int = 3
    """Side of the others' kernels."""
    head_channels: int = 512
    """Channels between the stacks and the logits; some more, as of the stacks."""
    condition_channels: int = 32
    """Channels of what a coarser level of codes tells, where there is one."""
    dropout: float = 0.0
    """Share of the stacks' features that the logits do without, while training."""
    num_classes: int = 0
    """Draw codes of a class: how many there are; 0: without classes."""
    label: str = "class"
    """The label that holds the class."""
    learning_rate: float = 0.0003
    """Adam's learning rate."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "width", "layers", "head_channels", "condition_channels")
        check(self, "above 0", "learning_rate")
        check(self, "at least 0", "num_classes")
        check(self, "in [0, 1)", "dropout")
        if not (self.first_kernel_size % 2 and self.kernel_size % 2) or min(self.first_kernel_size, self.kernel_size) < 3:
            raise UserError(
                f"kernels have odd sides from 3 on, got first {self.first_kernel_size} and kernel {self.kernel_size}"
            )


class PixelCNN(Autoregressive):
    """log p(ids) of ids [B, maps, H, W], given a class and a coarser level of codes, where there are such."""

    def __init__(self, spaces: Sequence[Space], conditions: Sequence[Space], config: PixelCNNConfig) -> None:
        super().__init__()
        self.space, self.config, self.learning_rate = require_grid(spaces), config, config.learning_rate
        self.spaces, self.conditions = tuple(spaces), tuple(conditions)
        c, maps = config, self.space.shape[0]
        self.conditioning = Conditioning(
            self.space,
            conditions,
            lambda inputs: nn.Sequential(
                nn.Conv2d(inputs, c.condition_channels, 3, padding=1), ResidualBlock(c.condition_channels, c.condition_channels)
            ),
        )
        self.net = GatedNet(
            maps,
            self.space.num_codes or 0,
            width=-(-c.width // maps) * maps,
            layers=c.layers,
            first_kernel_size=c.first_kernel_size,
            kernel_size=c.kernel_size,
            head_channels=-(-c.head_channels // maps) * maps,
            num_classes=self.conditioning.num_classes,
            condition_channels=c.condition_channels if self.conditioning.grids else 0,
        )

    def logits(self, ids: Tensor, condition: Codes, random: Random | None = None) -> Tensor:
        logits: Tensor = self.net(
            ids, self.conditioning.label(condition), self.conditioning(condition), self.config.dropout, random
        )
        return logits

    def decoder(self, n: int, condition: Codes) -> IncrementalDecoder:
        _, height, width = self.space.shape
        return self.net.decoder(n, height, width, self.conditioning.label(condition), self.conditioning(condition))
