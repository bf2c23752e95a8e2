"""Drawing codes one after another, from the top row down, from left to right, map after map."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from anamorph.core.prior import Taste
from anamorph.core.progress import Progress, quiet

__all__ = ["Walk", "draw_ids", "pick"]

STRETCH = 100
"""Places of a row after which progress is told."""


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


@torch.no_grad()
def draw_ids(
    walk: Walk,
    chances: Tensor,
    taste: Taste,
    known: Tensor | None = None,
    kept: Tensor | None = None,
    progress: Progress = quiet,
) -> Tensor:
    """Codes [n, maps, H, W], by inverting what the walk says of each at chances of that shape in [0, 1).

    known, kept: codes [n, maps, H, W], and true where they are kept.
    """
    ids = torch.zeros_like(chances, dtype=torch.long) if known is None or kept is None else torch.where(kept, known, 0)
    _, maps, height, width = ids.shape
    for r in range(height):
        walk.row(r)
        for c, (here, chance) in enumerate(zip(ids[:, :, r].unbind(2), chances[:, :, r].unbind(2), strict=True)):
            for m in range(maps):
                drawn = pick(walk.logits(r, c, here)[:, m], chance[:, m], taste)
                here[:, m] = drawn if kept is None else torch.where(kept[:, m, r, c], here[:, m], drawn)
            walk.put(r, c, here)
            if c + 1 == width or (c + 1) % STRETCH == 0:
                progress(r * width + c + 1, height * width)
    return ids


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
