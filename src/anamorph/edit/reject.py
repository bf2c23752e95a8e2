"""Classifier-based rejection sampling: of several samples of a class, those that look most like it are accepted.

Razavi, van den Oord, Vinyals 2019, arXiv:1906.00446, section 3.4: like truncation, it trades diversity for fidelity.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from anamorph.core.errors import UserError

__all__ = ["RejectionSampling"]


@dataclass(frozen=True)
class RejectionSampling:
    """Accept the best of every few samples of a class.

    Args:
        accepted: samples that are accepted of each group.
        candidates: samples in a group, all of one class.

    Raises: UserError unless 1 <= accepted <= candidates.
    """

    accepted: int
    candidates: int

    def __post_init__(self) -> None:
        if not 1 <= self.accepted <= self.candidates:
            raise UserError(
                f"rejection sampling accepts M of every N samples, 1 <= M <= N; got {self.accepted}/{self.candidates}"
            )

    @staticmethod
    def parse(text: str) -> RejectionSampling:
        """Read M/N, such as 1/4: the best of every four samples.

        Raises: UserError for other text.
        """
        accepted, _, candidates = text.partition("/")
        if not (accepted.isdecimal() and candidates.isdecimal()):
            raise UserError(f"rejection sampling is written M/N, such as 1/4 for the best of every four; got {text!r}")
        return RejectionSampling(int(accepted), int(candidates))

    def groups(self, n: int) -> int:
        """Return the number of groups of candidates that give n accepted samples."""
        return -(-n // self.accepted)

    def best(self, probabilities: Tensor, n: int) -> Tensor:
        """Return the indices [n] of the accepted samples, in increasing order.

        Args:
            probabilities: that each sample is of its class, group after group [groups * candidates].
            n: number of accepted samples.
        """
        best = probabilities.view(-1, self.candidates).topk(self.accepted, 1).indices.sort(1).values
        first = torch.arange(len(best), device=probabilities.device)[:, None] * self.candidates
        return (best + first).flatten()[:n]
