"""Stochastic variation: the noise maps of some layers drawn anew, while the rest of an image stays."""

from __future__ import annotations

from collections.abc import Sequence

from anamorph.core.model import HasNoise, UnsupportedOperation
from anamorph.core.random import Random
from anamorph.core.space import Codes, Space
from anamorph.edit.layers import Layers, check_layers

__all__ = ["noise_spaces", "sample_noise"]


def noise_spaces(spaces: Sequence[Space]) -> list[Space]:
    """The spaces of noise maps, the coarsest first.

    Raises: Lacking if there are none.
    """
    found = [space for space in spaces if space.role == "noise" and len(space.shape) == 3]
    if not found:
        raise UnsupportedOperation("this model has no noise maps to vary", HasNoise)
    return found


def sample_noise(n: int, spaces: Sequence[Space], random: Random, layers: Layers) -> Codes:
    """Fresh maps [n, 1, h, w] for some layers; `decode` uses its fixed ones for the others.

    Raises: UserError if there are no such layers.
    """
    maps = noise_spaces(spaces)
    return {maps[layer].name: random.normal(n, *maps[layer].shape) for layer in check_layers(layers, len(maps))}
