"""Squared distances between many features, a block at a time; and the smallest of each row, decided in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import linear

from anamorph.core.progress import Progress, no_progress

__all__ = ["Block", "Blocks", "Smallest", "blocks_across", "blocks_within", "squared_distances"]

SIDE = 1024
GROUP = 16
"""Columns of which only the smallest is looked at first; a power of two."""
EXACT_VALUES = 1 << 17
"""Numbers of a difference in float64 that are held at a time: what a processor keeps near."""

ERROR = 1.5e-5
"""Of a squared distance, in units of |x|^2 + |y|^2: ten times the largest that is seen among four million at 2,048 numbers."""

Block = tuple[slice, slice, Tensor]
"""Rows, columns, and the squared distances between them."""


class Blocks:
    """Squared distances |x|^2 + |y|^2 - 2 x.y in float32. Features are taken from the mean of the first set, without which
    a mean far from zero would cost the digits that tell neighbours apart; errors are below 2e-6 of |x|^2 + |y|^2. Each block
    overwrites the last: what is in it is used at once."""

    def __init__(self, first: Tensor, progress: Progress = no_progress, total: int = 1) -> None:
        sums = torch.stack([part.double().sum(0) for part in first.split(SIDE)]).sum(0)
        self.mean = sums.div(len(first)).to(first.dtype)
        self.right, self.block = (torch.empty(0, device=first.device) for _ in range(2))
        self.progress, self.done, self.total = progress, 0, total

    def across(self, x: Tensor, y: Tensor) -> Iterator[Block]:
        """Every block of the distances between features [N, D] and [M, D]."""
        ours, theirs = self._squares(x), self._squares(y)
        for rows in _slices(len(x)):
            part = self._centred(x[rows])
            for columns in _slices(len(y)):
                yield rows, columns, self._block(part, ours[rows], y[columns], theirs[columns])

    def upper(self, x: Tensor) -> Iterator[Block]:
        """Return the blocks on and above the diagonal of the distances within features [N, D]; to itself, each is infinitely
        far.
        """
        squares = self._squares(x)
        for rows in _slices(len(x)):
            part = self._centred(x[rows])
            for columns in _slices(len(x)):
                if columns.start >= rows.start:
                    block = self._block(part, squares[rows], x[columns], squares[columns])
                    if columns == rows:
                        block.fill_diagonal_(math.inf)
                    yield rows, columns, block

    def reach(self, x: Tensor, *ks: int) -> list[Tensor]:
        """For every k, the squared distance [N] of each of features [N, D] to its k-th nearest other, float64."""
        found = Smallest(len(x), min(max(ks) + 2, len(x) - 1), x)
        for rows, columns, squared in self.upper(x):
            found.offer(rows, squared, columns.start)
            if columns != rows:
                found.offer(columns, squared.mT, rows.start)
        slack = 2 * self.slack(x, x)
        return [found.kth(k, slack, x, x) for k in ks]

    def slack(self, x: Tensor, y: Tensor) -> Tensor:
        """Return how far off [n] a squared distance of each of x [n, D] to one of y may be."""
        return ERROR * (self._squares(x) + self._squares(y).max())

    def _centred(self, x: Tensor) -> Tensor:
        return (x - self.mean).float()

    def _squares(self, x: Tensor) -> Tensor:
        return torch.cat([torch.linalg.vecdot(part, part) for part in map(self._centred, x.split(SIDE))])

    def _block(self, left: Tensor, ours: Tensor, right: Tensor, theirs: Tensor) -> Tensor:
        self.done += 1
        self.progress(self.done, self.total)
        centred = torch.sub(right, self.mean, out=self.right.resize_(right.shape))
        block = torch.add(theirs[None], _product(left, centred), alpha=-2, out=self.block.resize_(len(left), len(right)))
        return block.add_(ours[:, None])


def _product(x: Tensor, y: Tensor) -> Tensor:
    """x y^T [n, m] of features [n, D] and [m, D]. On a processor by oneDNN, which goes by what this one can do. The library
    that torch takes by default goes by who has made it: on another maker's, it was half as fast (measured)."""
    if x.device.type == "cpu" and torch.backends.mkldnn.is_available():
        return linear(x.to_mkldnn(), y).to_dense()
    return x @ y.mT


def blocks_across(n: int, m: int) -> int:
    """Return how many blocks there are between n and m features."""
    return len(_slices(n)) * len(_slices(m))


def blocks_within(n: int) -> int:
    """Return how many blocks there are on and above the diagonal of n features."""
    return len(_slices(n)) * (len(_slices(n)) + 1) // 2


def _slices(n: int) -> list[slice]:
    return [slice(start, min(start + SIDE, n)) for start in range(0, n, SIDE)]


def squared_distances(x: Tensor, rows: Tensor, y: Tensor, columns: Tensor) -> Tensor:
    """Compute the squared distances of pairs of rows [n] of x [N, D] and of y [M, D], from their differences in float64, a
    few at a time.
    """
    step = max(1, EXACT_VALUES // x.shape[1])
    parts = zip(rows.split(step), columns.split(step), strict=True)
    return torch.cat([(x[i].double() - y[j].double()).square_().sum(1) for i, j in parts])


def _promising(values: Tensor, c: int) -> Tensor:
    """Return the columns [N, at least c] of values [N, M] that the c smallest of each row stand in: those of the c groups whose
    smallest are smallest, and those that no group has."""
    m = values.shape[1]
    groups = m // GROUP
    if groups <= c:
        return torch.arange(m, device=values.device).expand(len(values), m)
    lowest = values[:, : GROUP * groups]
    while lowest.shape[1] > groups:
        lowest = torch.minimum(*lowest.chunk(2, 1))
    chosen = lowest.topk(c, 1, largest=False, sorted=False).indices
    members = torch.arange(0, GROUP * groups, groups, device=values.device)
    rest = torch.arange(GROUP * groups, m, device=values.device)
    return torch.cat([(chosen[:, None] + members[:, None]).flatten(1), rest.expand(len(values), -1)], 1)


class Smallest:
    """The c smallest of each of n rows of numbers that come in blocks of columns, ascending, and the columns [n, c] they stand
    in."""

    def __init__(self, n: int, c: int, like: Tensor) -> None:
        self.value = torch.full((n, c), math.inf, device=like.device)
        self.index = torch.zeros(n, c, dtype=torch.int64, device=like.device)

    def offer(self, rows: slice, values: Tensor, first: int) -> None:
        """Take numbers [rows, columns] in, whose columns begin at `first`."""
        columns = _promising(values, self.index.shape[1])
        both = torch.cat([self.value[rows], values.gather(1, columns)], 1)
        where = torch.cat([self.index[rows], columns + first], 1)
        self.value[rows], chosen = both.topk(self.index.shape[1], 1, largest=False)
        self.index[rows] = where.gather(1, chosen)

    def exact(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the squared distances [n, c] of x [n, D] to those of y [m, D] that were found, ascending, in float64, and
        the columns in their order."""
        everywhere = torch.ones_like(self.index, dtype=torch.bool)
        found, order = self._decided(everywhere, x, y).sort(1)
        return found, self.index.gather(1, order)

    def kth(self, k: int, slack: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Compute the k-th smallest [n] squared distance of x [n, D] to those of y [m, D] that were found, in float64, which
        only those within a slack [n] of it in float32 are looked at in."""
        over = self.value - self.value[:, k - 1 : k]
        below = (over < -slack[:, None]).sum(1, keepdim=True)
        near = self._decided(over.abs_() <= slack[:, None], x, y).sort(1).values
        return near.gather(1, k - 1 - below)[:, 0]

    def share_below(self, slack: Tensor, below: Callable[[Tensor, Tensor], Tensor]) -> float:
        """Compute the share of rows that have a number below zero; `below` decides it for pairs of rows and columns that are
        within a slack [n] of zero."""
        sure = self.value[:, 0] < -slack
        row, at = ((self.value.abs() <= slack[:, None]) & ~sure[:, None]).nonzero(as_tuple=True)
        sure[row[below(row, self.index[row, at])]] = True
        return float(sure.double().mean())

    def _decided(self, which: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Compute the squared distances [n, c] in float64, where they are asked for; others are infinite."""
        found = torch.full(self.index.shape, math.inf, dtype=torch.float64, device=x.device)
        row, at = which.nonzero(as_tuple=True)
        found[row, at] = squared_distances(x, row, y, self.index[row, at])
        return found
