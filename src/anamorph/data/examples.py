"""Examples by index, as notebooks and `torch.utils.data.DataLoader` read them."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import NamedTuple, SupportsIndex

from torch import Tensor

from anamorph.core.signal import Batch, Label
from anamorph.core.space import Codes

__all__ = ["Example", "Examples"]

BLOCK = 256
"""Examples that are read at once when all are."""


class Example(NamedTuple):
    """One example: its signal [C, H, W] or [C, T] in [-1, 1], or its codes by space; and its class by label."""

    signal: Tensor | Codes
    labels: dict[str, int]


class Examples(ABC):
    """A sequence of examples, in the order of the first epoch: `source[i]` is what `source.take(i, 1)` holds."""

    name: str
    labels: tuple[Label, ...]

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of examples."""

    @abstractmethod
    def take(self, start: int, count: int, level: int = 0) -> Batch:
        """Return the examples at positions start .. start + count - 1, halved `level` times."""

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: SupportsIndex) -> Example:
        """Return one example; negative indices count from the end.

        Raises:
            TypeError: for anything but a whole number; `take` returns several examples.
            IndexError: for an index out of range.
        """
        try:
            position = operator.index(index)
        except TypeError:
            kind = type(index).__name__
            raise TypeError(f"examples are indexed by one whole number, got a {kind}: use take(start, count)") from None
        if not -self.size <= position < self.size:
            raise IndexError(f"index {position} is out of range for {self.size:,} examples")
        return next(self._split(self.take(position % self.size, 1)))

    def __iter__(self) -> Iterator[Example]:
        for start in range(0, self.size, BLOCK):
            yield from self._split(self.take(start, min(BLOCK, self.size - start)))

    def _describe(self, kind: str, content: str) -> str:
        """Return one line for `__repr__`."""
        labels = f", labels: {', '.join(label.name for label in self.labels)}" if self.labels else ""
        return f"{kind}({self.name!r}, {self.size:,} {content}{labels})"

    def _split(self, batch: Batch) -> Iterator[Example]:
        labels: Mapping[str, list[int]] = {name: values.tolist() for name, values in batch.labels.items()}
        for i in range(len(batch)):
            yield Example(self._one(batch, i), {name: values[i] for name, values in labels.items()})

    def _one(self, batch: Batch, i: int) -> Tensor | Codes:
        return batch.x[i] if isinstance(batch.x, Tensor) else {name: value[i] for name, value in batch.x.items()}
