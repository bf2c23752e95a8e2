"""Squared distances between many features, a block at a time; and the smallest of each row, decided in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from anamorph.core.progress import Progress, quiet

__all__ = ["Block", "Blocks", "Smallest", "blocks_across", "blocks_within"]

SIDE = 2048
EXACT_VALUES = 1 << 17
"""Numbers of a difference in float64 that are held at a time: what a processor keeps near."""

ERROR = 3e-6
"""Of a squared distance, in units of |x|^2 + |y|^2: ten times the largest that is seen among four million at 2,048 numbers."""

Block = tuple[slice, slice, Tensor]
"""Rows, columns, and the squared distances between them."""


class Blocks:
    """Squared distances |x|^2 + |y|^2 - 2 x.y in float32. Features are taken from the mean of the first set, without which
    a mean far from zero would cost the digits that tell neighbours apart; errors are below 1e-6 of |x|^2 + |y|^2. Each block
    overwrites the last: what is in it is used at once."""

    def __init__(self, first: Tensor, progress: Progress = quiet, total: int = 1) -> None:
        sums = torch.stack([part.double().sum(0) for part in first.split(SIDE)]).sum(0)
        self.mean = sums.div(len(first)).to(first.dtype)
        self.right, self.block = (torch.empty(0, device=first.device) for _ in range(2))
        self.progress, self.done, self.total = progress, 0, total

    def across(self, x: Tensor, y: Tensor) -> Iterator[Block]:
        """Every block of the distances between features [N, D] and [M, D]."""
        squares = self._squares(y)
        for rows in _slices(len(x)):
            part = self._centred(x[rows])
            for columns in _slices(len(y)):
                yield rows, columns, self._block(part, y[columns], squares[columns])

    def upper(self, x: Tensor) -> Iterator[Block]:
        """The blocks on and above the diagonal of the distances within features [N, D]; to itself, each is infinitely far."""
        squares = self._squares(x)
        for rows in _slices(len(x)):
            part = self._centred(x[rows])
            for columns in _slices(len(x)):
                if columns.start >= rows.start:
                    block = self._block(part, x[columns], squares[columns])
                    if columns == rows:
                        block.fill_diagonal_(math.inf)
                    yield rows, columns, block

    def within(self, x: Tensor, k: int) -> Tensor:
        """The squared distances [N, k] of each of features [N, D] to its k nearest others, ascending, float64."""
        found = Smallest(len(x), min(k + 2, len(x) - 1), x)
        for rows, columns, squared in self.upper(x):
            found.offer(rows, squared, columns.start)
            if columns != rows:
                found.offer(columns, squared.mT, rows.start)
        return found.exact(x, x)[0][:, :k]

    def slack(self, x: Tensor, y: Tensor) -> Tensor:
        """How far off [n] a squared distance of each of x [n, D] to one of y may be."""
        return ERROR * (self._squares(x) + self._squares(y).max())

    def _centred(self, x: Tensor) -> Tensor:
        return (x - self.mean).float()

    def _squares(self, x: Tensor) -> Tensor:
        return torch.cat([self._centred(part).double().square().sum(1) for part in x.split(SIDE)]).float()

    def _block(self, left: Tensor, right: Tensor, squares: Tensor) -> Tensor:
        self.done += 1
        self.progress(self.done, self.total)
        centred = torch.sub(right, self.mean, out=self.right.resize_(right.shape))
        block = torch.addmm(squares[None], left, centred.mT, alpha=-2, out=self.block.resize_(len(left), len(right)))
        return block.add_(left.square().sum(1, keepdim=True))


def blocks_across(n: int, m: int) -> int:
    """How many blocks there are between n and m features."""
    return len(_slices(n)) * len(_slices(m))


def blocks_within(n: int) -> int:
    """How many blocks there are on and above the diagonal of n features."""
    return len(_slices(n)) * (len(_slices(n)) + 1) // 2


def _slices(n: int) -> list[slice]:
    return [slice(start, min(start + SIDE, n)) for start in range(0, n, SIDE)]


class Smallest:
    """The c smallest of each of n rows of numbers that come in blocks of columns, and the columns [n, c] they stand in."""

    def __init__(self, n: int, c: int, like: Tensor) -> None:
        self.value = torch.full((n, c), math.inf, device=like.device)
        self.index = torch.zeros(n, c, dtype=torch.int64, device=like.device)

    @classmethod
    def of(cls, index: Tensor) -> Self:
        """Of columns that are known."""
        found = cls(0, 0, index)
        found.index = index
        return found

    def offer(self, rows: slice, values: Tensor, first: int) -> None:
        """Take numbers [rows, columns] in, whose columns begin at `first`."""
        value, index = values.topk(min(self.index.shape[1], values.shape[1]), 1, largest=False)
        both, where = torch.cat([self.value[rows], value], 1), torch.cat([self.index[rows], index + first], 1)
        self.value[rows], chosen = both.topk(self.index.shape[1], 1, largest=False)
        self.index[rows] = where.gather(1, chosen)

    def distances(self, x: Tensor, y: Tensor) -> Tensor:
        """The squared distances [n, c] of x [n, D] to those of y [m, D] that were found, from their differences in float64."""
        step = max(1, EXACT_VALUES // (max(1, self.index.shape[1]) * x.shape[1]))
        parts = zip(x.split(step), self.index.split(step), strict=True)
        return torch.cat([(part[:, None].double() - y[index].double()).square_().sum(2) for part, index in parts])

    def exact(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Those distances in ascending order, and the columns in theirs."""
        found, order = self.distances(x, y).sort(1)
        return found, self.index.gather(1, order)
