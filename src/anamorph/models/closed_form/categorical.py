"""A categorical distribution over one class per example, fitted by counting: the prior of a discrete latent without a grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.parallel import sum_over_processes
from anamorph.core.prior import Prior, SamplingOptions
from anamorph.core.random import Random
from anamorph.core.space import Codes, Space
from anamorph.nn.joint_class import check_class_conditions, joint_class, joint_classes

__all__ = ["Categorical"]

SMOOTHING = 1.0
"""Added to every count (Laplace), so that a class that was never seen has a probability."""


class Categorical(Prior):
    """log p(c) of whole numbers c [B] in 0..K-1, for each joint class of the labels that it is conditioned on.

    A batch is counted by `log_prob` while training (when random numbers are given); `commit` adds the counts.

    Raises:
        UserError: if the space or a condition is not one class per example.
    """

    counts: Tensor
    new_counts: Tensor

    def __init__(self, spaces: Sequence[Space], conditions: Sequence[Space]) -> None:
        super().__init__()
        if len(spaces) != 1 or spaces[0].shape != () or spaces[0].num_codes is None:
            raise UserError(f"a categorical distribution is over one class per example, got {'; '.join(map(str, spaces))}")
        check_class_conditions(conditions)
        self.spaces, self.conditions = tuple(spaces), tuple(conditions)
        rows = joint_classes(conditions)
        self.register_buffer("counts", torch.zeros(rows, spaces[0].num_codes, dtype=torch.float64))
        self.register_buffer("new_counts", torch.zeros(rows, spaces[0].num_codes, dtype=torch.float64), persistent=False)

    @classmethod
    def accepts_condition(cls, space: Space) -> bool:
        return space.shape == () and not space.is_real

    def log_prob(self, codes: Codes, condition: Codes | None = None, random: Random | None = None) -> Tensor:
        ids = codes[self.spaces[0].name]
        rows = joint_class(self.conditions, condition or {}, len(ids), self.counts.device)
        if random is not None:
            self.new_counts.index_put_((rows, ids), self.new_counts.new_ones(len(ids)), accumulate=True)
        return self._log_probabilities()[rows, ids].float()

    def _sample(self, n: int, random: Random, condition: Codes, options: SamplingOptions) -> Codes:
        """Sample n classes; the temperature divides their log-probabilities.

        Raises:
            UserError: for top-k, top-p or a mask, which are for priors that sample one code after another.
        """
        options.require_temperature_only("categorical")
        probabilities = (self._log_probabilities() / options.settings.temperature).softmax(1)
        probabilities = probabilities[joint_class(self.conditions, condition, n, self.counts.device)]
        ids = torch.searchsorted(probabilities.cumsum(1), random.uniform(n, 1).double()).squeeze(1)
        return {self.spaces[0].name: ids.clamp_max(probabilities.shape[1] - 1)}

    def _log_probabilities(self) -> Tensor:
        smoothed = self.counts + SMOOTHING
        return (smoothed / smoothed.sum(1, keepdim=True)).log()

    @torch.no_grad()
    def commit(self) -> None:
        """Add the counts of the last step, over all processes."""
        sum_over_processes([self.new_counts])
        self.counts.add_(self.new_counts)
        self.new_counts.zero_()
