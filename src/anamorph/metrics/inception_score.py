"""How sure a classifier is of each image, and how many classes all of them are spread over, as one number.

Salimans et al. 2016, arXiv:1606.03498, section 4: exp of the mean of KL(p(y | x) || p(y)).
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from anamorph.core.errors import UserError

__all__ = ["inception_score"]


def inception_score(probabilities: Tensor, splits: int = 10) -> tuple[float, float]:
    """Mean and standard deviation over splits of probabilities [N, classes]; from 1 to the number of classes.

    Splits are taken in order, as the original does.
    Raises: UserError for fewer images than splits, a single class, or numbers that are no probabilities.
    """
    if probabilities.dim() != 2 or probabilities.shape[1] < 2:
        raise UserError(f"got probabilities {list(probabilities.shape)}, wanted [N, classes] of at least two classes")
    n, p = len(probabilities), probabilities.double()
    if not 1 <= splits <= n:
        raise UserError(
            f"{n} images are too few for {splits} splits: at least {splits} are needed, and thousands for a score that "
            f"does not come out low, since that of a split of k images cannot exceed k"
        )
    if not bool(torch.isfinite(p).all()) or bool((p < 0).any()) or bool(((p.sum(1) - 1).abs() > 1e-3).any()):
        raise UserError("some rows are no probabilities (finite, not negative, of sum 1): pass softmax of the logits")
    bounds = [i * n // splits for i in range(splits + 1)]
    scores = torch.stack([_score(p[start:end]) for start, end in itertools.pairwise(bounds)])
    return float(scores.mean()), float(scores.std(correction=0))


def _score(p: Tensor) -> Tensor:
    mean = p.mean(0, keepdim=True)
    return (torch.xlogy(p, p) - torch.xlogy(p, mean)).sum(1).mean().exp()
