"""Random numbers as a function of (seed, step, phase), and their replay.

Whoever asks for the numbers of one step and phase gets the same ones, however training was interrupted or divided:
every process and micro-batch draws for the whole batch and keeps its own strided part.
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
"""One request: kind, shape, low, high, shared."""


class Random(ABC):
    """A stream of random tensors.

    The first axis of a shape runs over the examples of the batch, unless the draw is `shared` by all of them.
    """

    @abstractmethod
    def generate(self, request: Request) -> Tensor: ...

    def normal(self, *shape: int, shared: bool = False) -> Tensor:
        """Standard normal numbers."""
        return self.generate(("normal", shape, 0, 0, shared))

    def uniform(self, *shape: int, shared: bool = False) -> Tensor:
        """Numbers in [0, 1)."""
        return self.generate(("uniform", shape, 0, 0, shared))

    def integers(self, low: int, high: int, shape: Sequence[int], shared: bool = False) -> Tensor:
        """Whole numbers in low .. high - 1."""
        return self.generate(("integers", tuple(shape), low, high, shared))


class Seeded(Random):
    """The stream that belongs to a seed and a place, such as (step, phase)."""

    def __init__(self, seed: int, *place: int | str, device: torch.device | str = "cpu") -> None:
        key = hashlib.blake2b(repr((seed, *place)).encode(), digest_size=7).digest()
        self.generator = torch.Generator(device).manual_seed(int.from_bytes(key, "little"))

    def generate(self, request: Request) -> Tensor:
        kind, shape, low, high, _ = request
        device = self.generator.device
        if kind == "normal":
            return torch.randn(shape, generator=self.generator, device=device)
        if kind == "uniform":
            return torch.rand(shape, generator=self.generator, device=device)
        return torch.randint(low, high, shape, generator=self.generator, device=device)


class Sliced(Random):
    """The part [offset::stride] of another stream's examples: a process's, or a micro-batch's."""

    def __init__(self, whole: Random, offset: int, stride: int) -> None:
        self.whole, self.offset, self.stride = whole, offset, stride

    def generate(self, request: Request) -> Tensor:
        kind, shape, low, high, shared = request
        if shared or self.stride == 1:
            return self.whole.generate(request)
        everyone = self.whole.generate((kind, (shape[0] * self.stride, *shape[1:]), low, high, shared))
        return everyone[self.offset :: self.stride]


class Replay(Random):
    """Gives recorded tensors back, in order; checks that each has the shape asked for."""

    def __init__(self, recorded: Sequence[Tensor]) -> None:
        self.recorded, self.position = list(recorded), 0

    def generate(self, request: Request) -> Tensor:
        if self.position >= len(self.recorded):
            raise UserError(f"the replay holds {len(self.recorded)} draws, and {request[:2]} was asked for after them")
        value = self.recorded[self.position]
        if tuple(value.shape) != request[1]:
            raise UserError(f"draw {self.position} of the replay is {list(value.shape)}, {request[:2]} was asked for")
        self.position += 1
        return value


class Recorder(Random):
    """Passes another stream on, and keeps what was asked of it."""

    def __init__(self, source: Random) -> None:
        self.source = source
        self.requests: list[Request] = []

    def generate(self, request: Request) -> Tensor:
        self.requests.append(request)
        return self.source.generate(request)
