"""All that a source holds, and which of it belongs to which split; and what was done to its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from anamorph.core.signal import Label
from anamorph.data.images import Pixels
from anamorph.data.order import Integers, held_out
from anamorph.data.shards import Shards

__all__ = ["StoredDataset", "conversion_notes"]


@dataclass(frozen=True)
class StoredDataset:
    """All examples of a source, images or (as `Shards` of such) sounds, and which rows belong to which split."""

    stored: Pixels
    labels: tuple[Label, ...]
    values: Mapping[str, Integers]
    split: Mapping[str, Integers]
    notes: tuple[str, ...]

    @staticmethod
    def of(
        stored: Pixels,
        labels: tuple[Label, ...] = (),
        values: Mapping[str, Integers] | None = None,
        test: Integers | None = None,
        notes: Iterable[str] = (),
    ) -> StoredDataset:
        """test: the rows that are held out; None: a fixed tenth."""
        held = held_out(len(stored)) if test is None else np.isin(np.arange(len(stored)), test)
        split = {"train": np.flatnonzero(~held), "test": np.flatnonzero(held), "all": np.arange(len(stored))}
        return StoredDataset(stored, labels, values or {}, split, tuple(notes))


def conversion_notes(shards: Shards, noun: str) -> list[str]:
    """Return what was done to the files of shards, and what was left out."""
    kept = len(np.unique(shards.source_rows))
    lines = [f"{n} {noun + ' was' if n == 1 else noun + 's were'} {what}" for what, n in sorted(shards.notes.items())]
    if shards.problems:
        first = "; ".join(f"{name}: {why}" for name, why in list(shards.problems.items())[:3])
        n = len(shards.problems)
        lines.append(f"{n} of {kept + n} {noun}s were left out, for example {first}")
    return lines
