"""How uncertain a measure is: by leaving a tenth of the images out, ten times; by its images; by its images in pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from anamorph.core.random import Random

__all__ = ["GROUPS", "WIDE", "bootstrap_difference", "jackknife", "jackknifed", "mean_error", "of_share", "without"]

GROUPS = 10
WIDE = 2.262
"""Standard errors of 95 % to either side, where the error itself was found from ten groups (Student's t, 9 degrees)."""
RESAMPLES = 2000


def without(n: int) -> list[Tensor]:
    """For each of ten groups, strided through n images, the images that are not in it."""
    every = torch.arange(n)
    return [every[every % GROUPS != group] for group in range(GROUPS)]


def jackknife(values: Sequence[float]) -> float:
    """Return the standard error of a measure whose values [10] were found with one tenth of the images left out at a time.

    Efron and Stein 1981, doi:10.1214/aos/1176345462, with groups for images.
    """
    mean = sum(values) / len(values)
    return math.sqrt((len(values) - 1) / len(values) * sum((v - mean) ** 2 for v in values))


def jackknifed(n: int, measure: Callable[[Tensor], float]) -> float:
    """Return the standard error of a measure of some of n images, which it is given the places of."""
    return jackknife([measure(rows) for rows in without(n)])


def mean_error(values: Tensor) -> float:
    """Return the standard error of the mean of values [n]."""
    return float(values.double().std() / math.sqrt(len(values))) if len(values) > 1 else math.nan


def of_share(share: float, n: int) -> float:
    """Return the standard error of a share of n."""
    return math.sqrt(max(share * (1 - share), 1 / (4 * n)) / n)


def bootstrap_difference(a: Tensor, b: Tensor, random: Random) -> tuple[float, float]:
    """Return the interval that holds 95 % of the mean difference of values a [n] from values b [n] of the same images, when
    these are drawn again and again (Efron 1979, the percentile interval)."""
    difference = a.double() - b.double()
    n = len(difference)
    means = [difference[random.integers(0, n, (100, n))].mean(1) for _ in range(RESAMPLES // 100)]
    ends = torch.cat(means).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return float(ends[0]), float(ends[1])
