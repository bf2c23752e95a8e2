"""Classes given on the command line, as in --label speaker=theo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from anamorph.core.errors import UserError, nearest

MAX_LISTED = 20
"""A message about an unknown class lists all of them, up to this number."""

__all__ = ["class_numbers"]


def class_numbers(run: Path, texts: Sequence[str], known: Mapping[str, int], problem: str) -> dict[str, int]:
    """Return the number of each class given as NAME=VALUE, by label.

    Args:
        run: folder of the run, for the names of its classes.
        texts: values of --label.
        known: number of classes of each label.
        problem: how the message about an unknown label begins, as in "the model does not sample by".

    Raises:
        UserError: for an unknown label, or a class that it does not have.
    """
    from anamorph.run_data import class_names

    numbers: dict[str, int] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in known:
            raise UserError(f"--label {text}: {problem} {name!r}: {nearest(name, known)}")
        names = class_names(run, name)
        if value not in names and not (value.isdigit() and int(value) < known[name]):
            hint = f"known: {', '.join(names)}" if len(names) <= MAX_LISTED else nearest(value, names)
            raise UserError(f"--label {text}: {name} has no class {value!r}: {hint}")
        numbers[name] = names.index(value) if value in names else int(value)
    return numbers
