"""Random numbers for several examples at once, each from its own stream, as if it had been drawn alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anamorph.core.random import Random, Request

__all__ = ["PerExampleRandom"]


class PerExampleRandom(Random):
    """Row i of every draw is what stream i would give to a batch of one, so that seed 7 is the same image in any company."""

    def __init__(self, streams: Sequence[Random]) -> None:
        self.streams = streams

    def generate(self, request: Request) -> Tensor:
        kind, shape, low, high, shared = request
        if shared:  # all streams go on; what they share is the first's
            drawn = [stream.generate(request) for stream in self.streams]
            return drawn[0]
        return torch.cat([stream.generate((kind, (1, *shape[1:]), low, high, shared)) for stream in self.streams])
