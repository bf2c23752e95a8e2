"""Drawing codes one after another, from the top row down, from left to right, map after map."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from anamorph.core.prior import SamplingSettings
from anamorph.core.progress import Progress, no_progress

__all__ = ["IncrementalDecoder", "sample_from_logits", "sample_ids"]

STRETCH = 100
"""Places of a row after which progress is told."""


class IncrementalDecoder(Protocol):
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
def sample_ids(
    decoder: IncrementalDecoder,
    uniforms: Tensor,
    settings: SamplingSettings,
    known: Tensor | None = None,
    kept: Tensor | None = None,
    progress: Progress = no_progress,
) -> Tensor:
    """Codes [n, maps, H, W], by inverting what the walk says of each at chances of that shape in [0, 1).

    known, kept: codes [n, maps, H, W], and true where they are kept.
    """
    ids = torch.zeros_like(uniforms, dtype=torch.long) if known is None or kept is None else torch.where(kept, known, 0)
    _, maps, height, width = ids.shape
    for r in range(height):
        decoder.row(r)
        for c, (here, chance) in enumerate(zip(ids[:, :, r].unbind(2), uniforms[:, :, r].unbind(2), strict=True)):
            for m in range(maps):
                drawn = sample_from_logits(decoder.logits(r, c, here)[:, m], chance[:, m], settings)
                here[:, m] = drawn if kept is None else torch.where(kept[:, m, r, c], here[:, m], drawn)
            decoder.put(r, c, here)
            if c + 1 == width or (c + 1) % STRETCH == 0:
                progress(r * width + c + 1, height * width)
    return ids


def sample_from_logits(logits: Tensor, uniform: Tensor, settings: SamplingSettings) -> Tensor:
    """Ids [n] of logits [n, K], by inverting their cumulative law at chances [n] in [0, 1)."""
    logits = logits.float() / settings.temperature
    if settings.top_k is not None and settings.top_k < logits.shape[1]:
        least = logits.topk(settings.top_k, 1).values[:, -1:]
        logits = torch.where(logits < least, -torch.inf, logits)
    shares = logits.softmax(1)
    if settings.top_p is not None:
        ranked, order = shares.sort(1, descending=True)
        before = ranked.cumsum(1) - ranked  # the likeliest is always kept
        shares = torch.zeros_like(shares).scatter(1, order, torch.where(before < settings.top_p, ranked, 0.0))
    sums = shares.double().cumsum(1)
    return (
        torch.searchsorted(sums, (uniform.double() * sums[:, -1]).unsqueeze(1), right=True)
        .squeeze(1)
        .clamp(max=logits.shape[1] - 1)
    )
