"""What goes into a model and comes out of it: signals, labels and batches of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.space import Codes

__all__ = ["Audio", "Batch", "Image", "Label", "Signal", "Source", "require_image"]


@dataclass(frozen=True)
class Image:
    """Pixels [C, H, W], float in [-1, 1]; height and width may differ."""

    channels: int
    height: int
    width: int
    noun: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        if self.channels not in (1, 2, 3, 4) or self.height < 1 or self.width < 1:
            raise UserError(f"an image has 1 to 4 channels and at least 1x1 pixels, got {self}")

    def __str__(self) -> str:
        return f"{self.height}x{self.width} with {self.channels} channel{'s' * (self.channels > 1)}"

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width

    @property
    def num_values(self) -> int:
        """Numbers in one image, C * H * W."""
        return self.channels * self.height * self.width

    def at(self, level: int) -> Image:
        """This image halved `level` times."""
        if self.height % 2**level or self.width % 2**level:
            raise UserError(f"{self} cannot be halved {level} times: use a size divisible by {2**level}")
        return Image(self.channels, self.height >> level, self.width >> level)


@dataclass(frozen=True)
class Audio:
    """Samples [C, T], float in [-1, 1], at a rate in hertz."""

    channels: int
    samples: int
    sample_rate: int
    noun: ClassVar[str] = "sound"

    def __post_init__(self) -> None:
        if self.channels not in (1, 2) or self.samples < 1 or self.sample_rate < 1:
            raise UserError(
                f"a sound has 1 or 2 channels, at least 1 sample and a rate in hertz, got {self.channels} channels, "
                f"{self.samples} samples and {self.sample_rate} Hz"
            )

    def __str__(self) -> str:
        channels = f"{self.channels} channel{'s' * (self.channels > 1)}"
        return f"{self.samples:,} samples at {self.sample_rate:,} Hz ({self.seconds:.3g} s) with {channels}"

    @property
    def shape(self) -> tuple[int, int]:
        return self.channels, self.samples

    @property
    def num_values(self) -> int:
        """Numbers in one sound, C * T."""
        return self.channels * self.samples

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate

    def at(self, level: int) -> Audio:
        """This sound, which is never halved: models of sounds do not grow."""
        if level:
            raise UserError(f"{self} cannot be halved {level} times: only images can")
        return self


Signal = Image | Audio


def require_image(signal: Signal, what: str) -> Image:
    """Return a signal that is known to be an image. Raises: UserError naming what is for images alone."""
    if not isinstance(signal, Image):
        raise UserError(f"{what} is for images, got sounds of {signal}")
    return signal


@dataclass(frozen=True)
class Label:
    """One whole number per example, an index into the names of its classes."""

    name: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Batch:
    """Some examples: signals [B, C, H, W] or [B, C, T], or codes; and their labels, each [B]."""

    x: Tensor | Codes
    labels: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x if isinstance(self.x, Tensor) else next(iter(self.x.values())))

    @property
    def signals(self) -> Tensor:
        """The signals of a batch that holds signals."""
        if not isinstance(self.x, Tensor):
            raise UserError(f"wanted a batch of signals, got codes of {', '.join(self.x)}")
        return self.x

    def micro_batch(self, offset: int, stride: int) -> Batch:
        """Every `stride`-th example from `offset` on."""
        if stride == 1:
            return self
        x = self.x[offset::stride] if isinstance(self.x, Tensor) else {k: v[offset::stride] for k, v in self.x.items()}
        return Batch(x, {name: value[offset::stride] for name, value in self.labels.items()})

    def to(self, device: torch.device) -> Batch:
        x = self.x.to(device) if isinstance(self.x, Tensor) else {k: v.to(device) for k, v in self.x.items()}
        return Batch(x, {name: value.to(device) for name, value in self.labels.items()})


class Source(Protocol):
    """Examples as a function of position. Positions count on for ever: each epoch is another order of the same examples."""

    @property
    def signal(self) -> Signal: ...
    @property
    def size(self) -> int: ...
    @property
    def labels(self) -> tuple[Label, ...]: ...
    @property
    def fingerprint(self) -> str: ...

    def take(self, start: int, count: int, level: int = 0) -> Batch:
        """Return the examples at positions start .. start + count - 1, halved `level` times; a function of its arguments
        alone.
        """
        ...
