"""The base of datasets of images and of sounds: stored rows, labels, a split and an order."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from anamorph.core.errors import UserError, nearest
from anamorph.core.signal import Batch, Label, Signal
from anamorph.core.signal_batch import SignalBatch
from anamorph.data.examples import Examples
from anamorph.data.order import Integers

__all__ = ["Dataset"]

SHOWN = 32
"""Examples that a notebook shows of a dataset."""


class Dataset(Examples):
    """A dataset of images or sounds; its subclasses are frozen dataclasses.

    Positions run over permutations of the rows, one per epoch; without a seed, over the rows in order.

    Attributes:
        rows: the stored examples that belong to this split.
        values: the class of each stored example, by label.
        seed: of the permutations.
        notes: what was done to the originals, for the user to read.
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
    def fingerprint(self) -> str:
        """Name of the content and its order, wherever it is stored."""

    @abstractmethod
    def take(self, start: int, count: int, level: int = 0) -> Batch:
        """Return the examples at positions start .. start + count - 1, halved `level` times.

        The result depends on the arguments alone.
        """

    @abstractmethod
    def in_order(self) -> Self:
        """Return the same examples in their own order and unmirrored, as measurements need them."""

    @abstractmethod
    def shuffled(self) -> Self:
        """Return the same examples unmirrored, in an order that is always the same: the first few are a fair selection."""

    @abstractmethod
    def with_labels(self, names: Sequence[str]) -> Self:
        """Return the same examples with only these labels.

        Raises:
            UserError: for a label that the dataset does not have.
        """

    @property
    def size(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return self._describe("Dataset", f"{self.signal.noun}s of {self.signal}")

    def _one(self, batch: Batch, i: int) -> Tensor:
        return SignalBatch.of(batch.signals[i], self.signal)

    def _repr_png_(self) -> bytes | None:
        return SignalBatch.of(self.take(0, min(SHOWN, self.size)).signals, self.signal)._repr_png_()

    def _repr_html_(self) -> str | None:
        return SignalBatch.of(self.take(0, min(SHOWN, self.size)).signals, self.signal)._repr_html_()

    def _labels_named(self, names: Sequence[str]) -> tuple[Label, ...]:
        known = {label.name: label for label in self.labels}
        for name in names:
            if name not in known:
                raise UserError(f"{self.name} has no label {name!r}: {nearest(name, known)}")
        return tuple(known[name] for name in names)

    def _labels_of(self, rows: Integers) -> dict[str, Tensor]:
        return {label.name: torch.from_numpy(self.values[label.name][rows]) for label in self.labels}

    def _digest(self, *values: object) -> str:
        """Hash these values, the rows, and their labels."""
        digest = hashlib.blake2b(digest_size=8)
        digest.update(repr(values).encode())
        digest.update(np.ascontiguousarray(self.rows).data)
        for label in self.labels:
            digest.update(np.ascontiguousarray(self.values[label.name]).data)
        return digest.hexdigest()
