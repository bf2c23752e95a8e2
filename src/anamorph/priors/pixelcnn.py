"""The gated PixelCNN: each code from those above and to the left of it, by masked convolutions.

van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders", arXiv:1606.05328; as the prior of a VQ-VAE:
van den Oord et al. 2017, arXiv:1711.00937, section 3.3. Several maps of codes are taken like the colours of a picture: at a
place, each sees those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, relu

from anamorph.core.config import check
from anamorph.core.errors import UserError
from anamorph.core.random import Random
from anamorph.core.space import Codes, Space
from anamorph.nn.convolutional import ResidualBlock
from anamorph.nn.gated import GatedStacks, channel_mask
from anamorph.nn.masked import MaskedConv, dropout
from anamorph.priors.autoregressive import Autoregressive, Walk, grid_of
from anamorph.priors.told import Told

__all__ = ["PixelCNN", "PixelCNNConfig"]


@dataclass(frozen=True)
class PixelCNNConfig:
    """Sizes."""

    width: int = 64
    """Channels of each stack, a multiple of the number of code maps."""
    layers: int = 12
    """Of gated convolutions."""
    first: int = 7
    """Side of the first layer's kernel."""
    kernel: int = 3
    """Side of the others' kernels."""
    head: int = 512
    """Channels between the stacks and the logits, a multiple of the number of code maps."""
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
        self.space, self.config = grid_of(spaces), config
        self.spaces, self.given = tuple(spaces), tuple(given)
        c, maps = config, self.space.shape[0]
        if c.width % maps or c.head % maps:
            raise UserError(f"{maps} maps of codes need a width and a head that are multiples of it, got {c.width}, {c.head}")
        vocabulary = self.space.vocabulary or 0
        self.embed = nn.ModuleList(nn.Embedding(vocabulary, c.width // maps) for _ in range(maps))
        self.told = Told(
            self.space,
            given,
            lambda inputs: nn.Sequential(nn.Conv2d(inputs, c.told, 3, padding=1), ResidualBlock(c.told, c.told)),
        )
        told = c.told if self.told.grids else 0
        self.stacks = GatedStacks(c.width, c.width, c.layers, c.first, c.kernel, maps, self.told.classes, told)
        self.hidden = MaskedConv(c.width, c.head, mask=channel_mask(c.head, c.width, maps))
        self.last = MaskedConv(c.head, vocabulary * maps, mask=channel_mask(vocabulary * maps, c.head, maps))

    def logits(self, ids: Tensor, given: Codes, random: Random | None = None) -> Tensor:
        features = self.stacks(self._embedded(ids).movedim(-1, 1), self.told.label(given), self.told(given))
        logits = self.last(relu(self.hidden(dropout(features, self.config.dropout, random))))
        return logits.unflatten(1, (-1, ids.shape[1])).permute(0, 2, 3, 4, 1)

    def _embedded(self, ids: Tensor) -> Tensor:
        """Features [B, ..., width] of ids [B, maps, ...], the maps by turns."""
        parts = [embed(ids[:, m]) for m, embed in enumerate(self.embed)]
        return torch.stack(parts, -1).flatten(-2)

    def walk(self, n: int, given: Codes) -> Walk:
        return _PixelCNNWalk(self, n, given)


class _PixelCNNWalk:
    def __init__(self, net: PixelCNN, n: int, given: Codes) -> None:
        maps, height, width = net.space.shape
        self.net, self.maps = net, maps
        self.stacks = net.stacks.walk(n, height, width, net.told.label(given), net.told(given))
        self.head = [(layer.masked()[:, :, 0, 0], layer.bias) for layer in (net.hidden, net.last)]

    def row(self, r: int) -> None:
        self.stacks.row(r)

    def logits(self, r: int, c: int, known: Tensor) -> Tensor:
        x = self.stacks.features(c, self.net._embedded(known))
        hidden, last = self.head
        x = linear(relu(linear(x, *hidden)), *last)
        return x.unflatten(1, (-1, self.maps)).transpose(1, 2)

    def put(self, r: int, c: int, ids: Tensor) -> None:
        self.stacks.put(r, c, self.net._embedded(ids))
