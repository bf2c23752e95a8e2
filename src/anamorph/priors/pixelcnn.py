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
from anamorph.nn.convolutional import ResidualBlock
from anamorph.nn.gated import GatedNet
from anamorph.nn.walk import Walk
from anamorph.priors.autoregressive import Autoregressive, grid_of
from anamorph.priors.told import Told

__all__ = ["PixelCNN", "PixelCNNConfig"]


@dataclass(frozen=True)
class PixelCNNConfig:
    """Sizes."""

    width: int = 64
    """Channels of each stack; if need be, some more, so that each code map or colour has as many."""
    layers: int = 12
    """Of gated convolutions."""
    first: int = 7
    """Side of the first layer's kernel."""
    kernel: int = 3
    """Side of the others' kernels."""
    head: int = 512
    """Channels between the stacks and the logits; some more, as of the stacks."""
    told: int = 32
    """Channels of what a coarser level of codes tells, where there is one."""
    dropout: float = 0.0
    """Share of the stacks' features that the logits do without, while training."""
    classes: int = 0
    """Draw codes of a class: how many there are; 0: without classes."""
    label: str = "class"
    """The label that holds the class."""
    rate: float = 0.0003
    """Adam's learning rate."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "width", "layers", "head", "told")
        check(self, "above 0", "rate")
        check(self, "at least 0", "classes")
        check(self, "in [0, 1)", "dropout")
        if not (self.first % 2 and self.kernel % 2) or min(self.first, self.kernel) < 3:
            raise UserError(f"kernels have odd sides from 3 on, got first {self.first} and kernel {self.kernel}")


class PixelCNN(Autoregressive):
    """log p(ids) of ids [B, maps, H, W], given a class and a coarser level of codes, where there are such."""

    def __init__(self, spaces: Sequence[Space], given: Sequence[Space], config: PixelCNNConfig) -> None:
        super().__init__()
        self.space, self.config, self.rate = grid_of(spaces), config, config.rate
        self.spaces, self.given = tuple(spaces), tuple(given)
        c, maps = config, self.space.shape[0]
        self.told = Told(
            self.space,
            given,
            lambda inputs: nn.Sequential(nn.Conv2d(inputs, c.told, 3, padding=1), ResidualBlock(c.told, c.told)),
        )
        self.net = GatedNet(
            maps,
            self.space.vocabulary or 0,
            width=-(-c.width // maps) * maps,
            layers=c.layers,
            first=c.first,
            kernel=c.kernel,
            head=-(-c.head // maps) * maps,
            classes=self.told.classes,
            told=c.told if self.told.grids else 0,
        )

    def logits(self, ids: Tensor, given: Codes, random: Random | None = None) -> Tensor:
        logits: Tensor = self.net(ids, self.told.label(given), self.told(given), self.config.dropout, random)
        return logits

    def walk(self, n: int, given: Codes) -> Walk:
        _, height, width = self.space.shape
        return self.net.walk(n, height, width, self.told.label(given), self.told(given))
