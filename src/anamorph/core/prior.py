"""Laws over codes: what a model without one of its own is given, so that it can draw."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from anamorph.core.errors import UserError
from anamorph.core.progress import Progress, no_progress
from anamorph.core.random import Random
from anamorph.core.space import Codes, Space

__all__ = ["InpaintingMask", "Prior", "SamplingSettings"]


@dataclass(frozen=True)
class SamplingSettings:
    """Which of the possible codes are drawn. temperature: logits are divided by it. top_k: only so many of the likeliest.
    top_p: only the likeliest that make up this share (Holtzman et al. 2019, arXiv:1904.09751, section 3.1)."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise UserError(f"--temperature must be above 0, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"--top-k must be at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UserError(f"--top-p must be above 0 and at most 1, got {self.top_p}")


@dataclass(frozen=True)
class InpaintingMask:
    """Codes of which some are kept while the others are drawn anew. masks: by space, true where a code is kept [B, *shape]."""

    codes: Codes
    masks: dict[str, Tensor]


class Prior(nn.Module, ABC):
    """A law over the codes of `spaces`, given codes of others (such as a class, or a coarser level).

    rate: Adam's learning rate, of a law that is learned by gradient.
    """

    spaces: tuple[Space, ...]
    conditions: tuple[Space, ...] = ()
    learning_rate: float = 0.0

    @abstractmethod
    def log_prob(self, codes: Codes, condition: Codes | None = None, random: Random | None = None) -> Tensor:
        """Log-probabilities (or densities) [B] in nats. random: given while training, for what is left out by chance."""

    @abstractmethod
    def sample(
        self,
        n: int,
        random: Random,
        condition: Codes | None = None,
        settings: SamplingSettings | None = None,
        mask: InpaintingMask | None = None,
        progress: Progress = no_progress,
    ) -> Codes:
        """n codes of its spaces; those to keep are kept, and the others drawn given them as far as they come before."""

    def commit(self) -> None:
        """Learn what was gathered since the last step; most laws learn by gradient alone."""
