"""Schedules: resolution, batch, fade and learning rate as functions of the images seen."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from anamorph.core.config import check
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Constant", "Growing", "LearningRateSchedule", "Schedule", "Scheduled", "Stage"]


@dataclass(frozen=True)
class Stage:
    """Where training is.

    Args:
        level: halvings of the full resolution.
        batch: images per step.
        alpha: how far the newest level has faded in, 0 to 1.
        lr_scale: multiplies every learning rate.
        optimizer_epoch: when it changes, the optimizers' moments are reset.
    """

    level: int
    batch: int
    alpha: float | Tensor = 1.0
    lr_scale: float = 1.0
    optimizer_epoch: int = 0


class Schedule(Protocol):
    """The stage as a pure function of the images seen."""

    @property
    def num_graphs(self) -> int:
        """Number of stages that differ in more than numbers, each of which is compiled anew."""
        ...

    def at(self, images: int) -> Stage:
        """Return the stage of the step that begins when so many images have been seen."""
        ...


@dataclass(frozen=True)
class Constant:
    """One resolution throughout.

    Args:
        batch: images per step.
        level: halvings of the full resolution.
    """

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
    """Progressive growing (Karras et al. 2017, arXiv:1710.10196, section 2): level by level, each faded in, then trained."""

    batches: tuple[int, ...]
    """Images per step at each level, the coarsest first."""
    lr_scales: tuple[float, ...]
    """What multiplies the learning rate at each level, the coarsest first."""
    initial_images: int
    """Images seen at the coarsest level."""
    fade_images: int
    """Images during which each further level is faded in."""
    stable_images: int
    """Images during which each further level is trained after its fade."""
    fade_curve: Literal["linear", "sine"] = "linear"
    """linear: as StyleGAN, which resets the optimizers' moments at both ends of a fade. sine: as ALAE, which resets them at its
    beginning."""
    warmup_images: int = 0
    """Images during which the learning rate rises from zero."""

    def __post_init__(self) -> None:
        if not self.batches or len(self.batches) != len(self.lr_scales):
            raise UserError(
                f"a schedule has one batch and one lr-scale for each level, got {len(self.batches)} and {len(self.lr_scales)}"
            )
        check(self, "at least 1", "batches")
        check(self, "at least 0", "initial_images", "fade_images", "stable_images", "warmup_images")
        if self.fade_images + self.stable_images < 1:
            raise UserError(f"a level takes at least 1 image, got fade-images {self.fade_images} and stable-images 0")

    @property
    def num_graphs(self) -> int:
        return len(self.batches) + (len(self.batches) - 1) * bool(self.fade_images)

    def at(self, images: int) -> Stage:
        grown, position = -1, 0
        if images >= self.initial_images:
            grown, position = divmod(images - self.initial_images, self.fade_images + self.stable_images)
        doublings = min(grown + 1, len(self.batches) - 1)
        fading = grown + 1 == doublings > 0 and position < self.fade_images
        if fading and position == 0 and self.fade_curve == "linear":  # at its very beginning, the fade has not yet begun
            doublings, fading = doublings - 1, False
        epoch = 2 * doublings - fading if self.fade_curve == "linear" else doublings
        scale = self.lr_scales[doublings] * (min(images / self.warmup_images, 1.0) if self.warmup_images else 1.0)
        alpha = self._alpha(position / self.fade_images) if fading else 1.0
        return Stage(len(self.batches) - 1 - doublings, self.batches[doublings], alpha, scale, epoch)

    def _alpha(self, share: float) -> float:
        return share if self.fade_curve == "linear" else 0.5 + 0.5 * math.sin(math.pi * share - math.pi / 2)


@dataclass(frozen=True)
class LearningRateSchedule:
    """Warm-up and decay of the learning rate, in images."""

    warmup_images: int = 0
    """Images during which the learning rate rises linearly from zero."""
    decay: Literal["none", "linear", "cosine"] = "none"
    """How it falls: not at all, along a line, or along half a cosine (Loshchilov and Hutter 2016, arXiv:1608.03983)."""
    decay_from: int = 0
    """Images seen when it begins to fall."""
    decay_images: int | None = None
    """Images during which it falls; None: those that remain until the total of the run."""
    final: float = 0.0
    """The share of the learning rate that is left at the end, in [0, 1]."""

    def __post_init__(self) -> None:
        check(self, "at least 0", "warmup_images", "decay_from", "final")
        check(self, "at least 1", "decay_images")
        if self.final > 1:
            raise UserError(f"final is a share of the learning rate, at most 1, got {self.final}")

    def until(self, total: int) -> LearningRateSchedule:
        """Return the schedule whose decay ends at a total of images, unless its length is given."""
        if self.decay == "none" or self.decay_images is not None:
            return self
        if self.decay_from >= total:
            raise UserError(f"the decay begins at {self.decay_from:,} images, and the run ends at {total:,}: begin it earlier")
        return replace(self, decay_images=total - self.decay_from)

    def scale(self, images: int) -> float:
        """Return what multiplies the learning rate when so many images have been seen.

        Raises:
            UserError: if the length of a decay is not known (see `until`).
        """
        rise = min(images / self.warmup_images, 1.0) if self.warmup_images else 1.0
        if self.decay == "none":
            return rise
        if self.decay_images is None:
            raise UserError("the length of the decay is not known: give decay-images, or a total of images")
        share = min(max(images - self.decay_from, 0) / self.decay_images, 1.0)
        left = 1 - share if self.decay == "linear" else (1 + math.cos(math.pi * share)) / 2
        return rise * (self.final + (1 - self.final) * left)


@dataclass(frozen=True)
class Scheduled:
    """A schedule whose learning rate also follows a schedule of its own."""

    schedule: Schedule
    learning_rate: LearningRateSchedule

    @property
    def num_graphs(self) -> int:
        return self.schedule.num_graphs

    def at(self, images: int) -> Stage:
        stage = self.schedule.at(images)
        return replace(stage, lr_scale=stage.lr_scale * self.learning_rate.scale(images))
