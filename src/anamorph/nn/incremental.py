"""Sampling codes one after another: rows from the top, columns from the left, then maps."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from anamorph.core.prior import SamplingSettings
from anamorph.core.progress import Progress, no_progress

__all__ = ["IncrementalDecoder", "sample_from_logits", "sample_ids"]

PROGRESS_INTERVAL = 100
"""Positions of a row between two reports of progress."""


class IncrementalDecoder(Protocol):
    """An autoregressive network evaluated at one position after the other."""

    def row(self, r: int) -> None:
        """Begin a row."""
        ...

    def logits(self, r: int, c: int, known: Tensor) -> Tensor:
        """Return logits [n, maps, K] at row r, column c.

        Args:
            r: row.
            c: column.
            known: codes [n, maps] at this position; the logits of a map depend on those of earlier maps alone.
        """
        ...

    def put(self, r: int, c: int, ids: Tensor) -> None:
        """Set the codes [n, maps] at row r, column c."""
        ...


@torch.no_grad()
def sample_ids(
    decoder: IncrementalDecoder,
    uniforms: Tensor,
    settings: SamplingSettings,
    known: Tensor | None = None,
    known_mask: Tensor | None = None,
    progress: Progress = no_progress,
) -> Tensor:
    """Sample codes [n, maps, H, W] by inverting the cumulative distribution of each.

    Args:
        decoder: gives the logits at each position.
        uniforms: random numbers [n, maps, H, W] in [0, 1).
        settings: how codes are sampled from logits.
        known: codes [n, maps, H, W] of which some are given.
        known_mask: true where a code is given [n, maps, H, W]; the others are sampled.
        progress: called with the number of positions that are done, and of all.
    """
    ids = torch.zeros_like(uniforms, dtype=torch.long)
    if known is not None and known_mask is not None:
        ids = torch.where(known_mask, known, ids)
    _, maps, height, width = ids.shape
    for r in range(height):
        decoder.row(r)
        for c, (current, uniform) in enumerate(zip(ids[:, :, r].unbind(2), uniforms[:, :, r].unbind(2), strict=True)):
            for m in range(maps):
                sampled = sample_from_logits(decoder.logits(r, c, current)[:, m], uniform[:, m], settings)
                current[:, m] = sampled if known_mask is None else torch.where(known_mask[:, m, r, c], current[:, m], sampled)
            decoder.put(r, c, current)
            if c + 1 == width or (c + 1) % PROGRESS_INTERVAL == 0:
                progress(r * width + c + 1, height * width)
    return ids


def sample_from_logits(logits: Tensor, uniform: Tensor, settings: SamplingSettings) -> Tensor:
    """Sample ids [n] from logits [n, K], by inverting their cumulative distribution at uniform numbers [n] in [0, 1)."""
    logits = logits.float() / settings.temperature
    if settings.top_k is not None and settings.top_k < logits.shape[1]:
        threshold = logits.topk(settings.top_k, 1).values[:, -1:]
        logits = torch.where(logits < threshold, -torch.inf, logits)
    probabilities = logits.softmax(1)
    if settings.top_p is not None:
        ranked, order = probabilities.sort(1, descending=True)
        before = ranked.cumsum(1) - ranked  # zero for the likeliest, which always remains
        nucleus = torch.where(before < settings.top_p, ranked, 0.0)
        probabilities = torch.zeros_like(probabilities).scatter(1, order, nucleus)
    cumulative = probabilities.double().cumsum(1)
    ids = torch.searchsorted(cumulative, (uniform.double() * cumulative[:, -1]).unsqueeze(1), right=True)
    return ids.squeeze(1).clamp(max=logits.shape[1] - 1)
