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
    """Map noise z [B, Z] to w [B, D]: normalisation, then fully connected layers; without layers, w is the normalised z.

    Karras et al. 2018 (arXiv:1812.04948), figure 1b.

    Args:
        widths: Z, the units of the hidden layers, and D.
        slope: of the leaky ReLU after each layer.
        lr_multiplier: learning rate of these layers, relative to others.
        num_classes: classes whose embedding [Z] is concatenated to z; 0 for none.
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
    """Return styles [B, L, D] whose layers from a random crossover on come from another w (Karras et al. 2018, section 3.1).

    Args:
        w: styles [B, L, D].
        other: styles [B, L, D] for the layers from the crossover on.
        random: for the decision and the crossover, which the whole batch shares.
        probability: of mixing; otherwise w is returned.
        layers: the last layer that the crossover may be.
        first_layer: the first layer that the crossover may be.
    """
    does_mix = random.uniform(1, shared=True) < probability
    crossover = random.integers(first_layer, layers + 1, (1,), shared=True)
    from_other = (torch.arange(w.shape[1], device=w.device) >= crossover) & does_mix
    return torch.where(from_other.view(1, -1, 1), other, w)
