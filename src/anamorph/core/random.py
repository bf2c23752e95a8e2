"""Random numbers as a function of (seed, step, phase), and their replay.

A step and phase always get the same numbers, however training was interrupted or divided among processes.
Every process and micro-batch generates those of the whole batch and keeps its own strided part.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from anamorph.core.errors import UserError

__all__ = ["Random", "Recorder", "Replay", "Request", "Seeded", "Sliced"]

Request = tuple[Literal["normal", "uniform", "integers"], tuple[int, ...], int, int, bool]
"""A request for numbers: kind, shape, low, high, shared."""


class Random(ABC):
    """A stream of random tensors.

    The first axis of a shape runs over the examples of the batch, unless the numbers are `shared` by all of them.
    """

    @abstractmethod
    def generate(self, request: Request) -> Tensor:
        """Return the numbers of a request, a tensor of its shape."""

    def normal(self, *shape: int, shared: bool = False) -> Tensor:
        """Return standard normal numbers."""
        return self.generate(("normal", shape, 0, 0, shared))

    def uniform(self, *shape: int, shared: bool = False) -> Tensor:
        """Return numbers in [0, 1)."""
        return self.generate(("uniform", shape, 0, 0, shared))

    def integers(self, low: int, high: int, shape: Sequence[int], shared: bool = False) -> Tensor:
        """Return whole numbers in low .. high - 1."""
        return self.generate(("integers", tuple(shape), low, high, shared))


class Seeded(Random):
    """The stream of a seed and a key, such as (step, phase)."""

    def __init__(self, seed: int, *key: int | str, device: torch.device | str = "cpu") -> None:
        digest = hashlib.blake2b(repr((seed, *key)).encode(), digest_size=7).digest()
        self.generator = torch.Generator(device).manual_seed(int.from_bytes(digest, "little"))

    def generate(self, request: Request) -> Tensor:
        kind, shape, low, high, _ = request
        device = self.generator.device
        if kind == "normal":
            return torch.randn(shape, generator=self.generator, device=device)
        if kind == "uniform":
            return torch.rand(shape, generator=self.generator, device=device)
        return torch.randint(low, high, shape, generator=self.generator, device=device)


class Sliced(Random):
    """The part [offset::stride] of another stream: that of one process or one micro-batch."""

    def __init__(self, whole: Random, offset: int, stride: int) -> None:
        self.whole, self.offset, self.stride = whole, offset, stride

    def generate(self, request: Request) -> Tensor:
        kind, shape, low, high, shared = request
        if shared or self.stride == 1:
            return self.whole.generate(request)
        whole_batch = self.whole.generate((kind, (shape[0] * self.stride, *shape[1:]), low, high, shared))
        return whole_batch[self.offset :: self.stride]


class Replay(Random):
    """Recorded tensors, returned in order; each must have the requested shape."""

    def __init__(self, recorded: Sequence[Tensor]) -> None:
        self.recorded, self.position = list(recorded), 0

    def generate(self, request: Request) -> Tensor:
        if self.position >= len(self.recorded):
            raise UserError(f"the replay has {len(self.recorded)} tensors, and {request[:2]} was requested after them")
        value = self.recorded[self.position]
        if tuple(value.shape) != request[1]:
            raise UserError(f"tensor {self.position} of the replay is {list(value.shape)}, and {request[:2]} was requested")
        self.position += 1
        return value


class Recorder(Random):
    """Another stream, whose requests are recorded."""

    def __init__(self, source: Random) -> None:
        self.source = source
        self.requests: list[Request] = []

    def generate(self, request: Request) -> Tensor:
        self.requests.append(request)
        return self.source.generate(request)
