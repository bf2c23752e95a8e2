"""From noise z to styles w: the mapping network of the style-based models, style mixing and the mean of w."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anamorph.core.precision import autocast_off
from anamorph.core.random import Random
from anamorph.nn.equalized import pixel_norm
from anamorph.nn.mlp import MLP, leaky

__all__ = ["MappingNetwork", "mix_styles"]


class MappingNetwork(nn.Module):
    """w [B, D] from z [B, Z], normalised, through layers that are `rate` times as fast as others; with none, w is z.

    Karras et al. 2018 (arXiv:1812.04948), figure 1b. classes: also reads a class, as a learned vector [Z] beside z.
    """

    def __init__(self, widths: list[int], slope: float, lr_multiplier: float, num_classes: int = 0) -> None:
        super().__init__()
        inputs, *others = widths
        self.embedding = nn.Parameter(torch.randn(num_classes, inputs)) if num_classes else None
        self.net = (
            MLP([inputs * (1 + bool(num_classes)), *others], leaky(slope), leaky(slope), lr_multiplier)
            if others
            else nn.Identity()
        )

    def forward(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        if self.embedding is not None:
            assert classes is not None
            z = torch.cat([z, self.embedding[classes]], 1)
        with autocast_off(z):
            w: Tensor = self.net(pixel_norm(z))
        return w


def mix_styles(w: Tensor, other: Tensor, random: Random, probability: float, layers: int, first_layer: int = 1) -> Tensor:
    """Styles [B, L, D] whose layers from a random one on, first .. `layers`, come from another w; all w otherwise.

    One decision and one crossover for the whole batch (style mixing, Karras et al. 2018, section 3.1).
    w, other: [B, L, D].
    """
    decided = random.uniform(1, shared=True) < probability
    crossover = random.integers(first_layer, layers + 1, (1,), shared=True)
    taken = (torch.arange(w.shape[1], device=w.device) >= crossover) & decided
    return torch.where(taken.view(1, -1, 1), other, w)
