"""Classes that are asked for by name, as in --label speaker=theo: of a label that a model is trained with, or of a code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from anamorph.core.errors import UserError, nearest

FEW = 20
"""So many classes are all named where one is unknown."""

__all__ = ["class_numbers"]


def class_numbers(run: Path, texts: Sequence[str], known: Mapping[str, int], nothing: str) -> dict[str, int]:
    """The number of each class that is asked for, by its label.

    known: how many classes each label has. nothing: what is told of an unknown label, as in "the model draws no".
    Raises: UserError for a label that is not known, or a class that it does not have.
    """
    from anamorph.run_data import class_names

    found: dict[str, int] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in known:
            raise UserError(f"--label {text}: {nothing} {name!r}: {nearest(name, known)}")
        names = class_names(run, name)
        if value not in names and not (value.isdigit() and int(value) < known[name]):
            hint = f"known: {', '.join(names)}" if len(names) <= FEW else nearest(value, names)
            raise UserError(f"--label {text}: {name} has no class {value!r}: {hint}")
        found[name] = names.index(value) if value in names else int(value)
    return found
