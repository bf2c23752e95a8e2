"""Where training is: resolution, batch, fade and learning rate, each a function of the images seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Constant", "Growing", "Schedule", "Stage"]


@dataclass(frozen=True)
class Stage:
    """level: halvings of the full resolution. batch: images per step. blend: how far the newest level has faded in.

    lr_scale multiplies every learning rate. When era changes, the optimizers' moments are reset.
    """

    level: int
    batch: int
    alpha: float | Tensor = 1.0
    lr_scale: float = 1.0
    optimizer_epoch: int = 0


class Schedule(Protocol):
    """The stage as a pure function of the images seen. kinds: how many stages there are that differ in more than numbers."""

    @property
    def num_graphs(self) -> int: ...

    def at(self, images: int) -> Stage: ...


@dataclass(frozen=True)
class Constant:
    """One resolution, always: the full one, or that of a level."""

    batch: int = 128
    level: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise UserError(f"a batch holds at least one image, got {self.batch}")

    @property
    def num_graphs(self) -> int:
        return 1

    def at(self, images: int) -> Stage:
        return Stage(self.level, self.batch)


@dataclass(frozen=True)
class Growing:
    """Progressive growing (Karras et al. 2017, arXiv:1710.10196, section 2): level by level, each faded in, then trained.

    batches, rates: by level, the coarsest first; as many as there are levels. rates multiply the learning rate.
    first: images seen at the coarsest level. fade, stable: images during which each further one is faded in, and then trained.
    ramp: linear, and the moments are reset at both ends of a fade, as in StyleGAN; or sine, and they are reset at its
    beginning, as in ALAE. warmup: images during which the learning rate grows from zero.
    """

    batches: tuple[int, ...]
    lr_scales: tuple[float, ...]
    initial_images: int
    fade_images: int
    stable_images: int
    fade_curve: Literal["linear", "sine"] = "linear"
    warmup_images: int = 0

    def __post_init__(self) -> None:
        if not self.batches or len(self.batches) != len(self.lr_scales):
            raise UserError(f"wanted one batch and one rate per level, got {len(self.batches)} and {len(self.lr_scales)}")
        if (
            min(self.batches) < 1
            or min(self.initial_images, self.fade_images, self.warmup_images) < 0
            or self.fade_images + self.stable_images < 1
        ):
            raise UserError(f"batches and the images of a level must be at least 1, and no span negative; got {self}")

    @property
    def num_graphs(self) -> int:
        return len(self.batches) + (len(self.batches) - 1) * bool(self.fade_images)

    def at(self, images: int) -> Stage:
        grown, place = (
            divmod(images - self.initial_images, self.fade_images + self.stable_images)
            if images >= self.initial_images
            else (-1, 0)
        )
        step = min(grown + 1, len(self.batches) - 1)  # how many times the image has been doubled
        fading = grown + 1 == step > 0 and place < self.fade_images
        if fading and place == 0 and self.fade_curve == "linear":  # at its very beginning, the fade has not yet begun
            step, fading = step - 1, False
        era = 2 * step - fading if self.fade_curve == "linear" else step
        scale = self.lr_scales[step] * (min(images / self.warmup_images, 1.0) if self.warmup_images else 1.0)
        blend = self._ramp(place / self.fade_images) if fading else 1.0
        return Stage(len(self.batches) - 1 - step, self.batches[step], blend, scale, era)

    def _ramp(self, part: float) -> float:
        return part if self.fade_curve == "linear" else 0.5 + 0.5 * math.sin(math.pi * part - math.pi / 2)
