"""Stochastic variation: new noise maps for some layers (Karras et al. 2018, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

from anamorph.core.model import HasNoise, UnsupportedOperation
from anamorph.core.random import Random
from anamorph.core.space import Codes, Space
from anamorph.edit.layers import Layers, check_layers

__all__ = ["noise_spaces", "sample_noise"]


def noise_spaces(spaces: Sequence[Space]) -> list[Space]:
    """Return the spaces of noise maps, the coarsest first.

    Raises: UnsupportedOperation if there are none.
    """
    maps = [space for space in spaces if space.role == "noise" and len(space.shape) == 3]
    if not maps:
        raise UnsupportedOperation("this model has no noise maps to vary", HasNoise)
    return maps


def sample_noise(n: int, spaces: Sequence[Space], random: Random, layers: Layers) -> Codes:
    """Sample noise maps [n, 1, h, w] for some layers; `decode` uses its fixed maps for the others.

    Raises: UserError if the model does not have these layers.
    """
    maps = noise_spaces(spaces)
    return {maps[layer].name: random.normal(n, *maps[layer].shape) for layer in check_layers(layers, len(maps))}
