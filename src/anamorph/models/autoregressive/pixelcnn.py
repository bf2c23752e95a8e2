"""The gated PixelCNN: each code given those above and to the left of it, by masked convolutions.

van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders", arXiv:1606.05328, equations 1 to 3; as the
prior of a VQ-VAE: van den Oord et al. 2017, arXiv:1711.00937, section 3.3. Several maps of codes are treated like the colour
channels of an image: at a position, each map is given those before it.
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
    """Features of each stack; rounded up to a multiple of the number of code maps or colours."""
    layers: int = 12
    """Gated convolutional layers."""
    first_kernel_size: int = 7
    """Side of the first layer's kernel."""
    kernel_size: int = 3
    """Side of the other layers' kernels."""
    head_channels: int = 512
    """Features between the stacks and the logits; rounded up like the width."""
    condition_channels: int = 32
    """Channels of the features of coarser codes on which it is conditioned, if there are any."""
    dropout: float = 0.0
    """Dropout rate of the stacks' features, while training."""
    num_classes: int = 0
    """Number of classes on which it is conditioned; 0: none."""
    label: str = "class"
    """Name of the label that holds the class."""
    learning_rate: float = 0.0003
    """Adam's learning rate."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "width", "layers", "head_channels", "condition_channels")
        check(self, "above 0", "learning_rate")
        check(self, "at least 0", "num_classes")
        check(self, "in [0, 1)", "dropout")
        if not (self.first_kernel_size % 2 and self.kernel_size % 2) or min(self.first_kernel_size, self.kernel_size) < 3:
            raise UserError(
                f"kernel sizes must be odd and at least 3, got first_kernel_size {self.first_kernel_size} and kernel_size "
                f"{self.kernel_size}"
            )


class PixelCNN(Autoregressive):
    """A distribution over codes [B, maps, H, W], conditioned on a class and on coarser codes, if there are any."""

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
