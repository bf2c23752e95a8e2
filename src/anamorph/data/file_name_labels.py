"""Labels from file names, by a pattern: {digit}_{speaker}_* reads 7_jackson_32.wav."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath

from anamorph.core.errors import UserError
from anamorph.core.signal import Label
from anamorph.data.listing import Listing, classes_of

__all__ = ["label_by_file_names", "pattern_fields"]

FIELD = re.compile(r"\{([A-Za-z][A-Za-z0-9_-]*)\}|(\*)")


def pattern_fields(pattern: str) -> list[str]:
    """Return the labels that a pattern names."""
    return [found[1] for found in FIELD.finditer(pattern) if found[1]]


def label_by_file_names(listing: Listing, pattern: str) -> Listing:
    """Return a listing whose labels come from its file names, instead of any others.

    pattern: of the name without its ending, or, where it has slashes, also of as many folders above. {label} stands for a
    class of that label, * for anything; neither reaches over a slash.
    Raises: UserError if it names no label, or one twice, or does not fit a file.
    """
    fields = pattern_fields(pattern)
    if not fields or len(set(fields)) < len(fields):
        raise UserError(f"names are read by a pattern such as {{digit}}_{{speaker}}_*, each label once; got {pattern!r}")
    read = _reader(pattern)
    depth, found = pattern.count("/") + 1, []
    for name in listing.names:
        stem = "/".join((*PurePosixPath(name).parts[-depth:-1], PurePosixPath(name).stem))
        match = read.fullmatch(stem)
        if not match:
            raise UserError(f"{name} is not named by the pattern {pattern}: rename it, or choose a pattern that fits all files")
        found.append(match.groups())
    columns = {field: classes_of([row[i] for row in found]) for i, field in enumerate(fields)}
    labels = tuple(Label(field, classes) for field, (classes, _) in columns.items())
    return replace(listing, labels=labels, values={field: values for field, (_, values) in columns.items()})


def _reader(pattern: str) -> re.Pattern[str]:
    text, at = "", 0
    for found in FIELD.finditer(pattern):
        text += re.escape(pattern[at : found.start()]) + ("([^/]+?)" if found[1] else "[^/]*?")
        at = found.end()
    return re.compile(text + re.escape(pattern[at:]))
