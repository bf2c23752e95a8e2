"""The Fréchet distance between two sets of features, each taken as a Gaussian (FID).

Heusel et al. 2017, arXiv:1706.08500, equation 6: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).
"""

from __future__ import annotations

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.features.feature_set import check_pair
from anamorph.features.moments import Moments

__all__ = ["frechet_bias", "frechet_distance", "frechet_of_features"]


def frechet_distance(a: Moments, b: Moments) -> float:
    """Compute the squared Fréchet distance of two Gaussians; 0 for equal ones.

    The eigenvalues of S1 S2 are those of the symmetric L^T S2 L, where S1 = L L^T, and a trace of a square root is the sum of
    their roots: no square root of a matrix is needed.
    Raises: UserError if the widths differ, or one has fewer examples than numbers per example, which leaves no covariance.
    """
    if len(a.mean) != len(b.mean):
        raise UserError(f"features of {len(a.mean)} and of {len(b.mean)} numbers: take both from the same network")
    width, fewest = len(a.mean), min(a.count, b.count)
    if fewest <= width:
        bias = f", here by about {frechet_bias(a, a.count, b.count):.3g}" if min(a.count, b.count) > 1 else ""
        raise UserError(
            f"{fewest:,} images are too few for a FID over {width:,} features: at least {width + 1:,} of either kind are "
            f"needed. With fewer, even two halves of the same data lie apart{bias}; take more images, or a network with "
            f"fewer features"
        )
    first, second = a.covariance, b.covariance
    root = _factor(first)
    roots = torch.linalg.eigvalsh(root.mT @ second @ root).clamp(min=0).sqrt().sum()
    distance = (a.mean - b.mean).square().sum() + first.trace() + second.trace() - 2 * roots
    return max(0.0, float(distance))


def _factor(covariance: Tensor) -> Tensor:
    """L with L L^T = S: triangular, or, where S has no such factor for want of rank, from its eigenvectors."""
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if not bool(failed):
        return factor
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt()


def frechet_bias(moments: Moments, n: int, m: int) -> float:
    """Estimate the distance between n and m images of the same distribution, the floor that no model can beat.

    The distance is of second order in the errors of mean and covariance. Of a Gaussian with eigenvalues l, that of the
    mean adds sum(l) (1/n + 1/m), and that of the covariance half the sum over i, j of l_i l_j (1 + [i = j]) / (l_i + l_j) times
    the same; that FID falls as 1/n to its limit is said by Chong and Forsyth 2019, arXiv:1911.07023.
    """
    values = torch.linalg.eigvalsh(moments.covariance).clamp(min=0)
    sums = values[:, None] + values[None, :]
    pairs = torch.where(sums > 0, values[:, None] * values[None, :] / sums.clamp(min=1e-300), 0.0)
    spread = 0.5 * (pairs.sum() + pairs.diagonal().sum())
    return float(values.sum() + spread) * (1 / n + 1 / m)


def frechet_of_features(real: Tensor, generated: Tensor) -> float:
    """Compute the squared Fréchet distance of features [N, D] and [M, D].

    Raises: UserError as `frechet_distance`; and for features that are not finite, or the same for every image.
    """
    check_pair(real, generated)
    return frechet_distance(Moments.of(real), Moments.of(generated))
