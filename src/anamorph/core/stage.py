"""Where training is: resolution, batch, fade and learning rate, each a function of the images seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from anamorph.core.errors import UserError

__all__ = ["Constant", "Schedule", "Stage"]


@dataclass(frozen=True)
class Stage:
    """level: halvings of the full resolution. batch: images per step. blend: how far the newest level has faded in.

    lr_scale multiplies every learning rate. When era changes, the optimizers' moments are reset.
    """

    level: int
    batch: int
    blend: float | Tensor = 1.0
    lr_scale: float = 1.0
    era: int = 0


class Schedule(Protocol):
    """The stage as a pure function of the images seen."""

    def at(self, images: int) -> Stage: ...


@dataclass(frozen=True)
class Constant:
    """The full resolution, always."""

    batch: int = 128

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise UserError(f"a batch holds at least one image, got {self.batch}")

    def at(self, images: int) -> Stage:
        return Stage(level=0, batch=self.batch)
