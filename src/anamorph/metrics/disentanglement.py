"""How far the numbers of a code go each with one known factor of its image: four measures that need the factors.

Codes are [N, D] and factors [N, K], whole numbers from 0 on. That of a code which is a list of the factors is 1 in all four.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.random import Random

__all__ = ["DCI", "dci", "factor_vae_score", "mutual_information_gap", "separated_attribute_predictability"]

BINS = 20
LEAST = 100
FOREST = 10


def mutual_information_gap(codes: Tensor, factors: Tensor) -> float:
    """Compute by how much the number of a code that tells most of a factor leads the next one, as a share of the factor's
    entropy, mean over factors (MIG).

    Chen et al. 2018, arXiv:1802.04942, equation 6; each number of the code is put into 20 bins between its extremes, as
    Locatello et al. 2018, arXiv:1811.12359, do.
    Raises: UserError for codes of a single number, fewer than 100 images, a factor of one value, or numbers not finite.
    """
    flat = _checked(codes, factors)
    binned = _binned(flat)
    gaps = []
    for factor in factors.unbind(1):
        counts = torch.bincount(factor).double()
        entropy = -_xlogx(counts / counts.sum()).sum()
        informations = torch.stack([_mutual_information(part, factor) for part in binned.unbind(1)])
        first, second = informations.topk(2).values
        gaps.append((first - second) / entropy)
    return float(torch.stack(gaps).mean())


def _binned(codes: Tensor) -> Tensor:
    low, high = codes.min(0).values, codes.max(0).values
    width = torch.where(high > low, high - low, 1.0)
    return ((codes - low) / width * BINS).long().clamp(max=BINS - 1)


def _mutual_information(a: Tensor, b: Tensor) -> Tensor:
    """In nats, of two lists of whole numbers."""
    width = int(b.max()) + 1
    table = torch.bincount(a * width + b, minlength=(int(a.max()) + 1) * width).view(-1, width).double() / len(a)
    return _xlogx(table).sum() - _xlogx(table.sum(0)).sum() - _xlogx(table.sum(1)).sum()


def _xlogx(p: Tensor) -> Tensor:
    return torch.xlogy(p, p)


@dataclass(frozen=True)
class DCI:
    """disentanglement: whether each number of a code matters for one factor. completeness: whether for each factor one number
    matters. informativeness: the share of held-out factors that are predicted."""

    disentanglement: float
    completeness: float
    informativeness: float


def dci(codes: Tensor, factors: Tensor, test_codes: Tensor, test_factors: Tensor) -> DCI:
    """Return what a forest per factor, which predicts it from codes, says of them.

    Eastwood and Williams 2018 (openreview By-7dz-AZ), section 3; the importances are those of random forests of 10 trees that
    see the whole code at every split, the scores as in their equations for D_i, C_j.
    Raises: UserError as `mutual_information_gap`.
    """
    from sklearn.ensemble import RandomForestClassifier

    flat, test = _checked(codes, factors), _checked(test_codes, test_factors)
    rows, accuracy = [], 0.0
    for factor, true in zip(factors.unbind(1), test_factors.unbind(1), strict=True):
        forest = RandomForestClassifier(FOREST, max_features=None, random_state=0).fit(flat.numpy(), factor.numpy())
        rows.append(torch.from_numpy(forest.feature_importances_))
        accuracy += float(forest.score(test.numpy(), true.numpy()))
    importance = torch.stack(rows, 1).double()  # [D, K]
    share = importance.sum(1) / importance.sum()
    return DCI(
        float((share * _peaked(importance)).sum()),
        float(_peaked(importance.mT).mean()),
        accuracy / factors.shape[1],
    )


def _peaked(importance: Tensor) -> Tensor:
    """One less the entropy of each row, in units of its greatest; 0 for a row of nothing."""
    total = importance.sum(1, keepdim=True)
    p = importance / total.clamp(min=1e-300)
    if p.shape[1] < 2:
        return torch.ones(len(p), dtype=p.dtype)
    return torch.where(total[:, 0] > 0, 1 + _xlogx(p).sum(1) / math.log(p.shape[1]), 0.0)


def separated_attribute_predictability(codes: Tensor, factors: Tensor, test_codes: Tensor, test_factors: Tensor) -> float:
    """Compute by how much the number of a code that predicts a factor best leads the next one, mean over factors (SAP).

    Kumar et al. 2017, arXiv:1711.00848, section 3: a score is the balanced accuracy on held-out images of the best thresholds
    on that number alone. Here it is taken above chance and divided by what is left to perfection, so that a perfect code has 1
    and factors of few and many values weigh alike; theirs is smaller by (1 - 1/values).
    Raises: UserError as `mutual_information_gap`.
    """
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.tree import DecisionTreeClassifier

    flat, test = _checked(codes, factors), _checked(test_codes, test_factors)
    gaps = []
    for factor, true in zip(factors.unbind(1), test_factors.unbind(1), strict=True):
        found = []
        for number in range(flat.shape[1]):
            tree = DecisionTreeClassifier(max_leaf_nodes=int(factor.max()) + 1, class_weight="balanced", random_state=0)
            tree.fit(flat[:, number : number + 1].numpy(), factor.numpy())
            predicted = tree.predict(test[:, number : number + 1].numpy())
            found.append(max(0.0, balanced_accuracy_score(true.numpy(), predicted, adjusted=True)))
        first, second = sorted(found, reverse=True)[:2]
        gaps.append(first - second)
    return sum(gaps) / len(gaps)


def factor_vae_score(
    codes: Tensor, factors: Tensor, random: Random, votes: int = 800, group: int = 64, alive: Tensor | None = None
) -> float:
    """Return how often the number of a code that varies least among images which share one factor tells which factor that is.

    Kim and Mnih 2018, arXiv:1802.05983, section 3 and its algorithm: numbers are divided by their deviation over all images,
    each number votes for the factor that it most often names in `votes` groups, and as many others are judged.
    alive: which numbers [D] to look at, since those that carry nothing must be left out (`active_units` tells); None: all that
    vary.
    Raises: UserError as `mutual_information_gap`, or if fewer than 10 images share a value, or no number is alive.
    """
    flat = _checked(codes, factors)
    variance = flat.var(0)
    alive = variance > 0 if alive is None else alive & (variance > 0)
    if not bool(alive.any()):
        raise UserError("no number of these codes varies: there is nothing to judge")
    scaled = flat[:, alive] / variance[alive].sqrt()
    groups = _groups(factors)
    which = random.integers(0, factors.shape[1], (2 * votes,)).tolist()
    rows, places = random.integers(0, len(flat), (2 * votes,)).tolist(), random.uniform(2 * votes, group)
    named = []
    for factor, row, place in zip(which, rows, places, strict=True):
        alike = groups[factor][int(factors[row, factor])]
        named.append(int(scaled[alike[(place * len(alike)).long()]].var(0).argmin()))
    table = torch.zeros(scaled.shape[1], factors.shape[1])
    for number, factor in zip(named[:votes], which[:votes], strict=True):
        table[number, factor] += 1
    says = table.argmax(1).tolist()
    right = sum(says[number] == factor for number, factor in zip(named[votes:], which[votes:], strict=True))
    return right / votes


def _groups(factors: Tensor) -> list[dict[int, Tensor]]:
    """Return the rows of each value of each factor."""
    found = [{int(v): (factor == v).nonzero()[:, 0] for v in factor.unique()} for factor in factors.unbind(1)]
    fewest = min(len(rows) for group in found for rows in group.values())
    if fewest < 10:
        raise UserError(f"only {fewest} images share a value of a factor, test_factors at least 10: take more images")
    return found


def _checked(codes: Tensor, factors: Tensor) -> Tensor:
    flat = codes.detach().cpu().double().flatten(1)
    if factors.dim() != 2 or len(factors) != len(flat) or factors.is_floating_point() or not factors.shape[1]:
        raise UserError(
            f"got {len(flat)} codes and factors {list(factors.shape)}, wanted whole numbers [N, K]: name labels that "
            f"the source has"
        )
    if len(flat) < LEAST:
        raise UserError(f"{len(flat)} images are too few, at least {LEAST} are needed: by fewer, chance looks like a factor")
    if flat.shape[1] < 2:
        raise UserError("codes of a single number have nothing to disentangle: at least two are needed")
    if not bool(torch.isfinite(flat).all()):
        raise UserError("some codes are not finite")
    single = [k for k, factor in enumerate(factors.unbind(1)) if len(factor.unique()) < 2]
    if single:
        raise UserError(f"factors {single} have a single value in these images: leave them out, or take more images")
    return flat
