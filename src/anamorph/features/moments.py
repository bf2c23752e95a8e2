"""Mean and covariance of features that arrive in batches."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from anamorph.core.errors import UserError

__all__ = ["Moments"]

AT_A_TIME = 4096


class Moments:
    """The number, mean [D] and covariance [D, D] of features that come in parts; float64, in memory that
    does not grow with them.

    Parts are joined as in Chan, Golub, LeVeque 1979, so that a mean far from zero costs no digits.
    """

    def __init__(self, features: int) -> None:
        self.count = 0
        self.mean = torch.zeros(features, dtype=torch.float64)
        self.scatter = torch.zeros(features, features, dtype=torch.float64)

    @classmethod
    def of(cls, x: Tensor) -> Self:
        """Return the moments of features [N, D]."""
        moments = cls(x.shape[1])
        moments.add(x)
        return moments

    def add(self, x: Tensor) -> None:
        """Take more features [N, D] in.

        Raises: UserError if some are not finite, or they are of another width.
        """
        if x.dim() != 2 or x.shape[1] != len(self.mean):
            raise UserError(f"got features {list(x.shape)}, expected [N, {len(self.mean)}]")
        for part in x.split(AT_A_TIME):
            part = part.detach().to("cpu", torch.float64)
            mean = part.mean(0)
            part = part - mean
            self._join(len(part), mean, part.mT @ part)
        if not bool(torch.isfinite(self.mean).all()):
            raise UserError("some features are not finite: look at these images, or use another feature network")

    def merge(self, other: Moments) -> None:
        """Add the examples of other moments."""
        self._join(other.count, other.mean, other.scatter)

    def _join(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        total, shift = self.count + count, mean - self.mean
        self.scatter += scatter
        self.scatter.addr_(shift, shift, alpha=self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total

    @property
    def covariance(self) -> Tensor:
        """Of the sample (divided by n - 1, as numpy.cov has it).

        Raises: UserError for fewer than two examples.
        """
        if self.count < 2:
            raise UserError(f"a covariance needs at least 2 images, got {self.count}")
        return self.scatter / (self.count - 1)
