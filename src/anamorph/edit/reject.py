"""Rejection by a classifier: of several draws of a class, those are kept that look most like it.

Razavi, van den Oord, Vinyals 2019, arXiv:1906.00446, section 3.4: fidelity is bought with diversity, as by truncation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from anamorph.core.errors import UserError

__all__ = ["Rejection"]


@dataclass(frozen=True)
class Rejection:
    """Of every `of` draws of a class, `kept` are kept.

    Raises: UserError unless 1 <= kept <= of.
    """

    kept: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.kept <= self.of:
            raise UserError(f"--keep-best M/N keeps M of every N draws, 1 <= M <= N; got {self.kept}/{self.of}")

    @staticmethod
    def parse(text: str) -> Rejection:
        """1/4, say."""
        kept, _, of = text.partition("/")
        if not (kept.isdecimal() and of.isdecimal()):
            raise UserError(f"--keep-best is M/N, such as 1/4: the best of every four; got {text!r}")
        return Rejection(int(kept), int(of))

    def groups(self, n: int) -> int:
        """How many times `of` have to be drawn, each time of one class, so that n are kept."""
        return -(-n // self.kept)

    def best(self, chances: Tensor, n: int) -> Tensor:
        """Which [n] of the draws are kept, in the order in which they were drawn; chances [groups * of]: of being of their
        class."""
        found = chances.view(-1, self.of).topk(self.kept, 1).indices.sort(1).values
        first = torch.arange(len(found), device=chances.device)[:, None] * self.of
        return (found + first).flatten()[:n]
