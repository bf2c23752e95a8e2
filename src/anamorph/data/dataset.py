"""What sources of images and of sounds have in common: rows of something stored, labels, a split and an order."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from anamorph.core.errors import UserError, nearest
from anamorph.core.signal import Batch, Label, Signal
from anamorph.data.order import Integers

__all__ = ["Dataset"]


class Dataset(ABC):
    """A source, as frozen dataclasses are one. Positions run over permutations of its rows, one per epoch; without a seed, over
    the rows in order.

    rows: those of what is stored that belong to this split. values: the labels' class per stored row. notes: what was done to
    the originals, for the user to read.
    """

    name: str
    rows: Integers
    labels: tuple[Label, ...]
    values: Mapping[str, Integers]
    seed: int | None
    notes: tuple[str, ...]

    @property
    @abstractmethod
    def signal(self) -> Signal: ...

    @property
    @abstractmethod
    def fingerprint(self) -> str: ...

    @abstractmethod
    def take(self, start: int, count: int, level: int = 0) -> Batch:
        """The examples at positions start .. start + count - 1, halved `level` times; a function of its arguments alone."""

    @abstractmethod
    def in_order(self) -> Self:
        """The same examples, in their own order and as they are: for measuring."""

    @abstractmethod
    def shuffled(self) -> Self:
        """The same examples as they are, in an order that is always the same: for looking at the first few."""

    @abstractmethod
    def with_labels(self, names: Sequence[str]) -> Self:
        """The same examples with only these labels.

        Raises: UserError for a label that the source does not have.
        """

    @property
    def size(self) -> int:
        return len(self.rows)

    def _labels_named(self, names: Sequence[str]) -> tuple[Label, ...]:
        known = {label.name: label for label in self.labels}
        for name in names:
            if name not in known:
                raise UserError(f"{self.name} has no label {name!r}: {nearest(name, known)}")
        return tuple(known[name] for name in names)

    def _labels_of(self, rows: Integers) -> dict[str, Tensor]:
        return {label.name: torch.from_numpy(self.values[label.name][rows]) for label in self.labels}

    def _digest(self, *facts: object) -> str:
        """Names these facts, the rows, and their labels."""
        digest = hashlib.blake2b(digest_size=8)
        digest.update(repr(facts).encode())
        digest.update(np.ascontiguousarray(self.rows).data)
        for label in self.labels:
            digest.update(np.ascontiguousarray(self.values[label.name]).data)
        return digest.hexdigest()
