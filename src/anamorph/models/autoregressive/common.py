"""What priors share that draw one code after another: from the top row down, from left to right, map after map."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from anamorph.core.errors import UserError
from anamorph.core.precision import autocast_off
from anamorph.core.prior import InpaintingMask, Prior, SamplingSettings
from anamorph.core.progress import Progress, no_progress
from anamorph.core.random import Random
from anamorph.core.space import Codes, Space, check_codes
from anamorph.nn.incremental import IncrementalDecoder, sample_ids

__all__ = ["Autoregressive", "require_grid", "require_sequence"]


class Autoregressive(Prior):
    """A law over one discrete space (maps, H, W) or (maps, T) or (T,), as the product of what each code is given those before
    it."""

    space: Space

    @property
    def grid(self) -> tuple[int, int, int]:
        """(maps, H, W) of its space, where a sequence is one row."""
        *maps, last = self.space.shape
        return (maps[0] if maps else 1, maps[1] if len(maps) > 1 else 1, last)

    @abstractmethod
    def logits(self, ids: Tensor, condition: Codes, random: Random | None = None) -> Tensor:
        """[B, *shape, K] for ids [B, *shape]: of each code, from those before it alone. random: for dropout."""

    @abstractmethod
    def decoder(self, n: int, condition: Codes) -> IncrementalDecoder:
        """The same logits, place by place."""

    def log_prob(self, codes: Codes, condition: Codes | None = None, random: Random | None = None) -> Tensor:
        ids = codes[self.space.name]
        logits = self.logits(ids, condition or {}, random)
        with autocast_off(logits):
            each = cross_entropy(logits.float().flatten(0, -2), ids.flatten(), reduction="none")
        return -each.view(len(ids), -1).sum(1)

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
        condition, settings = condition or {}, settings or SamplingSettings()
        check_codes(condition, self.conditions)
        chances = random.uniform(n, *self.space.shape)
        known = kept = None
        if mask is not None:
            parts = (part[self.space.name].expand(chances.shape) for part in (mask.codes, mask.masks))
            known, kept = (part.reshape(n, *self.grid) for part in parts)
        ids = sample_ids(self.decoder(n, condition), chances.view(n, *self.grid), settings, known, kept, progress)
        return {self.space.name: ids.view(chances.shape)}


def require_grid(spaces: Sequence[Space]) -> Space:
    """The space of a prior over one grid of codes.

    Raises: UserError if there are several, or it is none of codes on a grid.
    """
    if len(spaces) != 1 or spaces[0].num_codes is None or len(spaces[0].shape) != 3:
        told = ", ".join(map(str, spaces)) or "none"
        raise UserError(
            f"a prior over one grid of codes [maps, H, W] was asked for, and the spaces are {told}: for real codes there are "
            f"gaussian and mixture, for sounds wavenet"
        )
    return spaces[0]


def require_sequence(spaces: Sequence[Space]) -> Space:
    """The space of a prior over one sequence of codes, as (maps, T).

    Raises: UserError if there are several, or it is none of codes in a sequence.
    """
    if len(spaces) != 1 or spaces[0].num_codes is None or len(spaces[0].shape) not in (1, 2):
        told = ", ".join(map(str, spaces)) or "none"
        raise UserError(
            f"a prior over one sequence of codes [maps, T] was asked for, and the spaces are {told}: for images, use pixelcnn"
        )
    return replace(spaces[0], shape=(1, *spaces[0].shape)[-2:])
