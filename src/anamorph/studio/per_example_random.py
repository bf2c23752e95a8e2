"""Random numbers of several examples at once, each from its own stream, as if it were sampled alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anamorph.core.random import Random, Request

__all__ = ["PerExampleRandom"]


class PerExampleRandom(Random):
    """Random numbers whose row i is what stream i generates for a batch of one, so that a seed is the same image in any batch.

    Args:
        streams: one per example.
    """

    def __init__(self, streams: Sequence[Random]) -> None:
        self.streams = streams

    def generate(self, request: Request) -> Tensor:
        kind, shape, low, high, shared = request
        if shared:  # all streams advance, and the first one's numbers are shared
            numbers = [stream.generate(request) for stream in self.streams]
            return numbers[0]
        return torch.cat([stream.generate((kind, (1, *shape[1:]), low, high, shared)) for stream in self.streams])
