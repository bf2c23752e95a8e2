"""Priors: distributions over the codes of a model that has none of its own, so that it can sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anamorph.core.errors import UserError
from anamorph.core.progress import Progress, no_progress
from anamorph.core.random import Random
from anamorph.core.space import Codes, Space, check_codes

__all__ = ["InpaintingMask", "Prior", "SamplingOptions", "SamplingSettings"]


@dataclass(frozen=True)
class SamplingSettings:
    """How codes are sampled from their probabilities.

    Args:
        temperature: divides the logits; below 1, likely codes are sampled more often. Above 0.
        top_k: sample only from the k likeliest codes; None: from all.
        top_p: sample only from the likeliest codes that together have this probability, in (0, 1] (nucleus sampling, Holtzman
            et al. 2019, arXiv:1904.09751, section 3.1); None: from all.

    Raises:
        UserError: for a value out of its range.
    """

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
    """Codes of which some are given, while the others are sampled.

    Args:
        codes: by space, [B, *shape].
        masks: by space, true where a code is given [B, *shape].
    """

    codes: Codes
    masks: dict[str, Tensor]


@dataclass(frozen=True)
class SamplingOptions:
    """How codes are sampled.

    Args:
        settings: temperature, top-k and top-p.
        mask: codes that are given, while the others are sampled given those before them.
        progress: called with the number of positions that are done, and of all.
    """

    settings: SamplingSettings = SamplingSettings()
    mask: InpaintingMask | None = None
    progress: Progress = no_progress

    def require_temperature_only(self, kind: str) -> None:
        """Check that nothing but a temperature is set, for a prior that does not sample one code after another.

        Raises:
            UserError: for top-k, top-p or a mask.
        """
        if self.mask is not None or self.settings.top_k is not None or self.settings.top_p is not None:
            raise UserError(f"top-k, top-p and inpainting are for autoregressive priors, and this one is {kind}")


class Prior(nn.Module, ABC):
    """A distribution over the codes of `spaces`, conditioned on codes of others, such as a class or a coarser level.

    Args:
        spaces: what it is a distribution over.
        conditions: what it is conditioned on.
        learning_rate: Adam's, where it is learned by gradient.
    """

    spaces: tuple[Space, ...]
    conditions: tuple[Space, ...] = ()
    learning_rate: float = 0.0

    @classmethod
    def accepts_condition(cls, space: Space) -> bool:
        """Return whether such a prior can be conditioned on a space; it is given only those of a model that it accepts."""
        return True

    @abstractmethod
    def log_prob(self, codes: Codes, condition: Codes | None = None, random: Random | None = None) -> Tensor:
        """Compute log-probabilities (or densities) [B] in nats.

        Args:
            codes: of its spaces.
            condition: codes of the spaces that it is conditioned on.
            random: given while training, for dropout; priors in closed form then also gather the batch for `commit`.
        """

    @torch.no_grad()
    def sample(
        self,
        n: int,
        random: Random,
        condition: Codes | None = None,
        settings: SamplingSettings | None = None,
        mask: InpaintingMask | None = None,
        progress: Progress = no_progress,
    ) -> Codes:
        """Sample n codes of its spaces; codes that a mask gives stay, and the others are sampled given those before them.

        Raises:
            UserError: if the condition does not fit, or the prior cannot sample so.
        """
        check_codes(condition or {}, self.conditions)
        return self._sample(n, random, condition or {}, SamplingOptions(settings or SamplingSettings(), mask, progress))

    @abstractmethod
    def _sample(self, n: int, random: Random, condition: Codes, options: SamplingOptions) -> Codes:
        """Sample n codes, given a condition that is known to fit."""

    def commit(self) -> None:
        """Apply what was gathered since the last step; most priors learn by gradient alone."""
