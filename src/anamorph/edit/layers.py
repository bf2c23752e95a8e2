"""Ranges of synthesis layers, by number or by name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from anamorph.core.errors import UserError
from anamorph.core.model import HasStyles, UnsupportedOperation
from anamorph.core.space import Space

__all__ = ["Layers", "check_layers", "layer_groups", "layered", "layers_among", "parse_layers"]

Layers = tuple[int, ...]
"""Numbers of synthesis layers, the coarsest is 0."""


def layered(spaces: Sequence[Space]) -> Space:
    """The space whose axis 0 runs over synthesis layers.

    Raises: Lacking if there is none.
    """
    for space in spaces:
        if space.layered:
            return space
    names = ", ".join(space.name for space in spaces if not space.optional)
    raise UnsupportedOperation(f"codes of this model ({names}) have no layers", HasStyles)


def check_layers(layers: Layers, count: int) -> list[int]:
    """Layers as a list of indices. Raises: UserError unless there is one, and all are among so many."""
    if not layers or not all(0 <= layer < count for layer in layers):
        raise UserError(f"there are layers 0-{count - 1}, got {', '.join(map(str, layers)) or 'none'}")
    return list(layers)


def layer_groups(layers: int) -> dict[str, Layers]:
    """Coarse, middle and fine layers, of so many in all, two per resolution.

    Karras et al. 2018, figure 3: coarse are 4 and 8 pixels, middle 16 and 32, fine all above. Models of less than 128 pixels
    divide the resolutions that they have as evenly as they can.
    """
    blocks = layers // 2
    coarse = min(2, -(-blocks // 3))
    middle = min(2, -(-(blocks - coarse) // 2))
    ends = (0, 2 * coarse, 2 * (coarse + middle), layers)
    return {name: tuple(range(a, b)) for name, a, b in zip(("coarse", "middle", "fine"), ends, ends[1:], strict=False)}


def parse_layers(text: str, layers: int) -> Layers:
    """Layers from text: 0-3, 5, 0-1,6 or coarse, middle, fine, all; of a model that has so many.

    Raises: UserError if it is none of these, or out of bounds.
    """
    groups = {**layer_groups(layers), "all": tuple(range(layers))}
    found: list[int] = []
    for part in text.split(","):
        part = part.strip()
        number = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if part in groups:
            found += groups[part]
        elif number:
            first, last = int(number[1]), int(number[2] or number[1])
            if not first <= last < layers:
                raise UserError(f"there are layers 0-{layers - 1}, got {part}")
            found += range(first, last + 1)
        else:
            raise UserError(f"layers are written 0-3, or 0-1,6, or {', '.join(groups)}; got {text!r}")
    if not found:
        raise UserError(f"there are no {text} layers among the {layers} of this model")
    return tuple(sorted(set(found)))


def layers_among(text: str, spaces: Sequence[Space]) -> Layers:
    """`parse_layers`, for the layered one among some spaces. Raises: Lacking, too, if there is none."""
    return parse_layers(text, layered(spaces).shape[0])
