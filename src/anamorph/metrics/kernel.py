"""The kernel distance between two sets of features (KID): a squared maximum mean discrepancy that has no bias.

Bińkowski et al. 2018, arXiv:1801.01401, equation 4, with their kernel (x . y / D + 1)^3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.random import Random
from anamorph.features.feature_set import check_pair

__all__ = ["kernel_distance", "kernel_distance_all_pairs"]

AT_A_TIME = 4096


def kernel_distance(
    real: Tensor, generated: Tensor, random: Random, subsets: int = 100, size: int = 1000
) -> tuple[float, float]:
    """Compute the mean over subsets of features [N, D] and [M, D], and its standard error; it may be below zero.

    subsets and size are StyleGAN2-ADA's; fewer images than size are all taken. The error tells how subsets differ, divided by
    the root of their number.
    Raises: UserError for fewer than two images or subsets, or features that are not finite or all the same.
    """
    check_pair(real, generated, 2, "the distance within a set is taken over pairs")
    if subsets < 1 or size < 2:
        raise UserError(f"got {subsets} subsets of {size} images, wanted at least 1 of at least 2")
    size = min(size, len(real), len(generated))
    scores = [_between(*(_some(x, size, random) for x in (real, generated))) for _ in range(subsets)]
    found = torch.tensor(scores, dtype=torch.float64)
    error = float(found.std() / subsets**0.5) if subsets > 1 else float("nan")
    return float(found.mean()), error


def kernel_distance_all_pairs(real: Tensor, generated: Tensor) -> float:
    """Compute the same over all pairs of features [N, D] and [M, D] at once: the estimate with the least noise.

    Raises: UserError as `kernel_distance`.
    """
    check_pair(real, generated, 2, "the distance within a set is taken over pairs")
    return _between(real, generated)


def _some(x: Tensor, size: int, random: Random) -> Tensor:
    """Return a subset without repetition, in an order of its own."""
    return x[random.uniform(len(x)).argsort()[:size].to(x.device)]


def _between(a: Tensor, b: Tensor) -> float:
    """Equation 4 in float64; the numbers of either may differ."""
    n, m = len(a), len(b)
    within = _sum(a, a, diagonal=False) / (n * (n - 1)) + _sum(b, b, diagonal=False) / (m * (m - 1))
    return within - 2 * _sum(a, b) / (n * m)


def _sum(a: Tensor, b: Tensor, diagonal: bool = True) -> float:
    """Compute the sum of the kernel over pairs, a block at a time."""
    total = 0.0
    for left in a.split(AT_A_TIME):
        for right in b.split(AT_A_TIME):
            total += float(_kernel(left.double() @ right.double().mT, a.shape[1]).sum())
    return (
        total
        if diagonal
        else total - float(sum(_kernel(x.double().square().sum(1), a.shape[1]).sum() for x in a.split(AT_A_TIME)))
    )


def _kernel(products: Tensor, width: int) -> Tensor:
    return (products / width + 1).pow_(3)
