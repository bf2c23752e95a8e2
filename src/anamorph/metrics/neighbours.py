"""What nearest neighbours among features tell: how much of either set lies in the other, and whether samples are copies.

Precision and recall: Kynkäänniemi et al. 2019, arXiv:1904.06991. Density and coverage: Naeem et al. 2020, arXiv:2002.09797.
Copies: Meehan, Chaudhuri, Dasgupta 2020, arXiv:2004.05675. All distances are Euclidean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.progress import Progress, no_progress
from anamorph.features.feature_set import check_features, check_pair
from anamorph.metrics.blocks import Blocks, Smallest, blocks_across, blocks_within, squared_distances

__all__ = ["Memorisation", "NeighbourScores", "mean_distance", "memorisation", "nearest_neighbours", "neighbour_scores"]

DECIDED = 3
"""Candidates that are looked at in float64 where one would do, since float32 may mistake near ones for one another."""


@dataclass(frozen=True)
class NeighbourScores:
    """precision: the share of generated images among real ones. recall: of real ones among generated ones. density: how many
    real balls a generated image lies in, over k (1 for real images). coverage: the share of real balls that
    some generated image lies in."""

    precision: float
    recall: float
    density: float
    coverage: float


def neighbour_scores(
    real: Tensor, generated: Tensor, k: int = 3, density_k: int = 5, progress: Progress = no_progress
) -> NeighbourScores:
    """Precision and recall of features [N, D] and [M, D] with balls that reach to the k-th neighbour, and density and coverage
    with balls to the density_k-th (3 and 5 in the papers), of all distances found once, a block at a time.

    A ball's surface belongs to it for the first two, and not for the last two, as in the papers' code. The candidates that
    decide are found in float32 and looked at in float64.
    Raises: UserError for no more than k images, or features that are not finite or all the same.
    """
    most = max(k, density_k)
    if min(k, density_k) < 1:
        raise UserError(f"k must be at least 1, got {k} and {density_k}")
    why = f"a ball reaches to the {most}th neighbour; with few images balls are large, and all but density come out too high"
    check_pair(real, generated, most + 1, why)
    n, m = len(real), len(generated)
    blocks = Blocks(real, progress, blocks_within(n) + blocks_within(m) + blocks_across(n, m))
    (reach, open_ball), (back,) = blocks.reach(real, k, density_k), blocks.reach(generated, k)
    inside, backed = Smallest(m, min(DECIDED, n), real), Smallest(n, min(DECIDED, m), real)
    slack, covered = blocks.slack(real, generated), Smallest(n, min(DECIDED, m), real)
    held = _Count(open_ball, slack)
    for rows, columns, squared in blocks.across(real, generated):
        over = squared - open_ball[rows, None].float()
        covered.offer(rows, over, columns.start)
        held.offer(rows, over, columns.start)
        backed.offer(rows, squared - back[columns].float(), columns.start)
        inside.offer(columns, squared.sub_(reach[rows, None].float()).mT, rows.start)

    def apart(i: Tensor, j: Tensor) -> Tensor:
        return squared_distances(real, i, generated, j)

    return NeighbourScores(
        inside.share_below(blocks.slack(generated, real), lambda j, i: apart(i, j) <= reach[i]),
        backed.share_below(slack, lambda i, j: apart(i, j) <= back[j]),
        held.total(real, generated) / (density_k * m),
        covered.share_below(slack, lambda i, j: apart(i, j) < open_ball[i]),
    )


class _Count:
    """Counts the pairs that are closer than a limit [n] for each row; what float32 leaves open within a slack [n] is decided
    in float64."""

    def __init__(self, limit: Tensor, slack: Tensor) -> None:
        self.limit, self.slack, self.sure = limit, slack, 0
        self.rows: list[Tensor] = []
        self.columns: list[Tensor] = []

    def offer(self, rows: slice, over: Tensor, first: int) -> None:
        """Take in how far squared distances [rows, columns] are over the limit, which is overwritten."""
        slack = self.slack[rows, None]
        self.sure += int(torch.count_nonzero(over < -slack))
        row, column = (over.abs_() <= slack).nonzero(as_tuple=True)
        self.rows.append(row + rows.start)
        self.columns.append(column + first)

    def total(self, x: Tensor, y: Tensor) -> int:
        rows, columns = torch.cat(self.rows), torch.cat(self.columns)
        return self.sure + int(torch.count_nonzero(squared_distances(x, rows, y, columns) < self.limit[rows]))


def nearest_neighbours(queries: Tensor, base: Tensor, k: int = 1, progress: Progress = no_progress) -> tuple[Tensor, Tensor]:
    """Compute the distances [Q, k] of queries [Q, D] to their k nearest in a base [N, D], ascending, and their rows [Q, k]
    there.

    Raises: UserError for a base of fewer than k, or features that are not finite or all the same.
    """
    check_features(base, "images to search", max(2, k), f"{k} neighbours are wanted")
    if queries.dim() != 2 or queries.shape[1] != base.shape[1] or not bool(torch.isfinite(queries).all()):
        raise UserError(f"got queries {list(queries.shape)}, wanted finite numbers [N, {base.shape[1]}]")
    found = Smallest(len(queries), min(k + 2, len(base)), queries)
    for rows, columns, squared in Blocks(base, progress, blocks_across(len(queries), len(base))).across(queries, base):
        found.offer(rows, squared, columns.start)
    squared, index = found.exact(queries, base)
    return squared[:, :k].sqrt(), index[:, :k]


@dataclass(frozen=True)
class Memorisation:
    """closer: the chance that a generated image lies closer to the training set than a held-out one does; half if it copies
    no more than unseen images resemble, 1 if all are copies. z: the same in standard deviations of chance (Mann and Whitney).
    generated and held: the distances to the training set; nearest: which training image is each generated one's nearest."""

    closer: float
    z: float
    generated: Tensor
    held: Tensor
    nearest: Tensor


def memorisation(train: Tensor, held: Tensor, generated: Tensor, progress: Progress = no_progress) -> Memorisation:
    """Return whether generated images [M, D] lie closer to training images [N, D] than held-out ones [H, D] do.

    Raises: UserError for fewer than 20 held-out or generated images, for which the normal approximation fails, or bad features.
    """
    why = "with fewer, copies cannot be distinguished from chance"
    check_features(held, "held-out images", 20, why)
    check_features(generated, "generated images", 20, why)
    distances, index = nearest_neighbours(torch.cat([generated, held]), train, 1, progress)
    ours, theirs = distances[: len(generated), 0], distances[len(generated) :, 0]
    n, m = len(ours), len(theirs)
    ordered = theirs.sort().values
    above = m - torch.searchsorted(ordered, ours, right=True)
    equal = torch.searchsorted(ordered, ours, right=True) - torch.searchsorted(ordered, ours)
    wins = float((above + 0.5 * equal).double().sum())
    deviation = math.sqrt(n * m * (n + m + 1) / 12)
    return Memorisation(wins / (n * m), (wins - n * m / 2) / deviation, ours, theirs, index[: len(generated), 0])


def mean_distance(x: Tensor, progress: Progress = no_progress) -> float:
    """Compute the mean distance between two of the images with features [N, D]: their diversity.

    Raises: UserError for fewer than two images, or features that are not finite or all the same.
    """
    check_features(x, "images", 2, "a distance is between two")
    total = 0.0
    for rows, columns, squared in Blocks(x, progress, blocks_within(len(x))).upper(x):
        weight = 1 if rows == columns else 2
        total += weight * float(squared.clamp_(min=0).masked_fill_(squared.isinf(), 0).sqrt_().double().sum())
    return total / (len(x) * (len(x) - 1))
