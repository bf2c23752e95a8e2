"""What priors share that draw one code after another: from the top row down, from left to right, map after map."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from anamorph.core.errors import UserError
from anamorph.core.precision import full_precision
from anamorph.core.prior import Keep, Prior, Taste
from anamorph.core.progress import Progress, quiet
from anamorph.core.random import Random
from anamorph.core.space import Codes, Space, check_codes

__all__ = ["Autoregressive", "Walk", "grid_of", "pick"]


class Walk(Protocol):
    """A net at one place after the other."""

    def row(self, r: int) -> None:
        """Begin a row."""
        ...

    def logits(self, r: int, c: int, known: Tensor) -> Tensor:
        """Logits [n, maps, K] at a place, whose first codes may be `known` [n, maps]; a map's own and later ones do not
        count."""
        ...

    def put(self, r: int, c: int, ids: Tensor) -> None:
        """Say what the codes [n, maps] at a place are."""
        ...


class Autoregressive(Prior):
    """A law over one discrete space (maps, H, W), as the product of what each code is given those before it."""

    space: Space

    @abstractmethod
    def logits(self, ids: Tensor, given: Codes, random: Random | None = None) -> Tensor:
        """[B, maps, H, W, K] for ids [B, maps, H, W]: of each code, from those before it alone. random: for dropout."""

    @abstractmethod
    def walk(self, n: int, given: Codes) -> Walk:
        """The same logits, place by place."""

    def log_prob(self, codes: Codes, given: Codes | None = None, random: Random | None = None) -> Tensor:
        ids = codes[self.space.name]
        logits = self.logits(ids, given or {}, random)
        with full_precision(logits):
            each = cross_entropy(logits.float().flatten(0, -2), ids.flatten(), reduction="none")
        return -each.view(len(ids), -1).sum(1)

    @torch.no_grad()
    def draw(
        self,
        n: int,
        random: Random,
        given: Codes | None = None,
        taste: Taste | None = None,
        keep: Keep | None = None,
        progress: Progress = quiet,
    ) -> Codes:
        given, taste = given or {}, taste or Taste()
        check_codes(given, self.given)
        maps, height, width = self.space.shape
        chances = random.uniform(n, *self.space.shape)
        ids = torch.zeros(n, *self.space.shape, dtype=torch.long, device=chances.device)
        kept = torch.zeros_like(ids, dtype=torch.bool)
        if keep is not None:
            kept = keep.masks[self.space.name].expand_as(ids)
            ids = torch.where(kept, keep.codes[self.space.name], ids)
        walk = self.walk(n, given)
        for r in range(height):
            walk.row(r)
            for c in range(width):
                here = ids[:, :, r, c]
                for m in range(maps):
                    drawn = pick(walk.logits(r, c, here)[:, m], chances[:, m, r, c], taste)
                    here[:, m] = torch.where(kept[:, m, r, c], here[:, m], drawn)
                walk.put(r, c, here)
            progress(r + 1, height)
        return {self.space.name: ids}


def pick(logits: Tensor, chance: Tensor, taste: Taste) -> Tensor:
    """Ids [n] of logits [n, K], by inverting their cumulative law at chances [n] in [0, 1)."""
    logits = logits.float() / taste.temperature
    if taste.top_k is not None and taste.top_k < logits.shape[1]:
        least = logits.topk(taste.top_k, 1).values[:, -1:]
        logits = torch.where(logits < least, -torch.inf, logits)
    shares = logits.softmax(1)
    if taste.top_p is not None:
        ranked, order = shares.sort(1, descending=True)
        before = ranked.cumsum(1) - ranked  # the likeliest is always kept
        shares = torch.zeros_like(shares).scatter(1, order, torch.where(before < taste.top_p, ranked, 0.0))
    sums = shares.double().cumsum(1)
    return (
        torch.searchsorted(sums, (chance.double() * sums[:, -1]).unsqueeze(1), right=True)
        .squeeze(1)
        .clamp(max=logits.shape[1] - 1)
    )


def grid_of(spaces: Sequence[Space]) -> Space:
    """The space of a prior over one grid of codes.

    Raises: UserError if there are several, or it is none of codes on a grid.
    """
    if len(spaces) != 1 or spaces[0].vocabulary is None or len(spaces[0].shape) != 3:
        told = ", ".join(map(str, spaces)) or "none"
        raise UserError(f"a prior over one grid of codes [maps, H, W] was asked for, and the spaces are {told}")
    return spaces[0]
