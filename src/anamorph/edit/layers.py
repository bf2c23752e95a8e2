"""Synthesis layers, by number or by the name of a range."""

from __future__ import annotations

import re
from collections.abc import Sequence

from anamorph.core.errors import UserError
from anamorph.core.model import HasStyles, UnsupportedOperation
from anamorph.core.space import Space

__all__ = ["Layers", "check_layers", "layer_groups", "layered", "layers_among", "parse_layers"]

Layers = tuple[int, ...]
"""Indices of synthesis layers, of which 0 is the coarsest."""


def layered(spaces: Sequence[Space]) -> Space:
    """Return the space whose axis 0 runs over synthesis layers.

    Raises: UnsupportedOperation if there is none.
    """
    for space in spaces:
        if space.layered:
            return space
    names = ", ".join(space.name for space in spaces if not space.optional)
    raise UnsupportedOperation(f"codes of this model ({names}) have no layers", HasStyles)


def check_layers(layers: Layers, count: int) -> list[int]:
    """Return layers as a list of indices.

    Raises: UserError if there are none, or one is not in 0 .. count - 1.
    """
    if not layers or not all(0 <= layer < count for layer in layers):
        raise UserError(f"there are layers 0-{count - 1}, got {', '.join(map(str, layers)) or 'none'}")
    return list(layers)


def layer_groups(layers: int) -> dict[str, Layers]:
    """Return the coarse, middle and fine layers of a model with this number of layers, two per resolution.

    Karras et al. 2018, figure 3: coarse layers are those of 4 and 8 pixels, middle of 16 and 32, fine of all above. Models
    below 128 pixels divide their resolutions as evenly as possible.
    """
    blocks = layers // 2
    coarse = min(2, -(-blocks // 3))
    middle = min(2, -(-(blocks - coarse) // 2))
    ends = (0, 2 * coarse, 2 * (coarse + middle), layers)
    return {name: tuple(range(a, b)) for name, a, b in zip(("coarse", "middle", "fine"), ends, ends[1:], strict=False)}


def parse_layers(text: str, layers: int) -> Layers:
    """Read layers from text, such as 0-3, 5, 0-1,6, coarse, middle, fine or all.

    Args:
        text: ranges and names, separated by commas.
        layers: number of layers of the model.

    Raises: UserError for other text, and for layers that the model does not have.
    """
    groups = {**layer_groups(layers), "all": tuple(range(layers))}
    chosen: list[int] = []
    for part in text.split(","):
        part = part.strip()
        number = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if part in groups:
            chosen += groups[part]
        elif number:
            first, last = int(number[1]), int(number[2] or number[1])
            if not first <= last < layers:
                raise UserError(f"there are layers 0-{layers - 1}, got {part}")
            chosen += range(first, last + 1)
        else:
            raise UserError(f"layers are written 0-3, or 0-1,6, or {', '.join(groups)}; got {text!r}")
    if not chosen:
        raise UserError(f"none of the {layers} layers of this model are {text}")
    return tuple(sorted(set(chosen)))


def layers_among(text: str, spaces: Sequence[Space]) -> Layers:
    """Read layers of the layered space among some spaces, as `parse_layers`.

    Raises: UnsupportedOperation if no space is layered; UserError as `parse_layers`.
    """
    return parse_layers(text, layered(spaces).shape[0])
