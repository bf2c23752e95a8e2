"""Perceptual path length: how far images move, per step along a path between two codes.

Karras et al. 2018, arXiv:1812.04948, section 4.1 and equations 2 and 3, as in their code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.model import HasMapping, LatentModel, Samples, chunk_size, code_space, require
from anamorph.core.progress import Progress, no_progress
from anamorph.core.random import Random
from anamorph.core.space import Codes

__all__ = ["Distance", "PathLength", "PathLengthSettings", "face_crop", "path_length", "slerp", "summary", "to_viewing_size"]

Distance = Callable[[Tensor, Tensor], Tensor]
"""Of images [B, C, H, W] in [-1, 1] from others, [B]; of second order, as a squared difference is."""

LARGEST = 256
PAIRS = 64


@dataclass(frozen=True)
class PathLengthSettings:
    """space: w, what the model decodes, along a line; or z, the Gaussian that is mapped, along a great arc. sampling: at any
    place of the path, or at its beginning only ("end": t = 0, as the code has it; the paper says 0 or 1). epsilon: the step.
    crop: look at the part of an image where a face is, as the authors do for every data set. lowest, highest: percentiles
    between which distances are kept."""

    space: Literal["z", "w"] = "w"
    sampling: Literal["full", "end"] = "full"
    epsilon: float = 1e-4
    crop: bool = True
    lowest: float = 1
    highest: float = 99

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < 1 or not 0 <= self.lowest < self.highest <= 100:
            raise UserError(
                f"wanted 0 < epsilon < 1 and 0 <= lowest < highest <= 100, got {self.epsilon}, {self.lowest} and {self.highest}"
            )


@dataclass(frozen=True)
class PathLength:
    """The mean of the distances that were kept, its standard error, how many they are, between which, and all of them [n]."""

    mean: float
    error: float
    kept: int
    low: float
    high: float
    distances: Tensor


@torch.no_grad()
def path_length(
    model: LatentModel,
    distance: Distance,
    n: int,
    random: Random,
    spec: PathLengthSettings | None = None,
    labels: Mapping[str, Tensor] | None = None,
    progress: Progress = no_progress,
) -> PathLength:
    """Compute the perceptual path length of a model over n pairs of codes, by a distance of images; without truncation, and
    with the same noise in both images of a pair.

    labels: of each pair [n]. A model that decodes what it draws has one space for both, and `z` walks it along the great arc.
    Raises: UserError if the model does not draw, draws whole numbers, n is too few, or a distance is not finite.
    """
    spec = spec or PathLengthSettings()
    drawer = require(model, Samples, "a path length")
    if code_space(model).num_codes is not None:
        raise UserError(f"a path length needs codes of real numbers, and this model's are {code_space(model)}")
    at_once, found = min(PAIRS, max(1, chunk_size(model) // 2)), []
    for start in range(0, n, at_once):
        count = min(at_once, n - start)
        some = {name: value[start : start + count] for name, value in (labels or {}).items()}
        a, b = _pairs(drawer, count, random, spec, some or None)
        images = torch.stack([model.decode(a), model.decode(b)], 1).flatten(0, 1)
        shown = to_viewing_size(face_crop(images) if spec.crop else images)
        found.append(distance(shown[0::2], shown[1::2]).double().cpu() / spec.epsilon**2)
        progress(start + count, n)
    return summary(torch.cat(found) if found else torch.empty(0), spec.lowest, spec.highest)


def _pairs(
    model: Samples, n: int, random: Random, spec: PathLengthSettings, labels: Mapping[str, Tensor] | None
) -> tuple[Codes, Codes]:
    """Return codes at t and at t + epsilon of n paths, whose ends are drawn next to each other."""
    twice = {name: value.repeat_interleave(2) for name, value in labels.items()} if labels else None
    if not isinstance(model, HasMapping):
        ends = model.sample_codes(2 * n, random, twice)
        t = _times(n, random, spec, next(iter(ends.values())))
        way = _arc if spec.space == "z" else _line
        return _both(ends, way, t, spec.epsilon)
    z = random.normal(2 * n, *model.z_space.shape).to(next(iter(model.w_mean.values())).device)
    t = _times(n, random, spec, z)
    if spec.space == "z":
        return tuple(model.map(_arc(z[0::2], z[1::2], s), labels) for s in (t, t + spec.epsilon))  # type: ignore[return-value]
    return _both(model.map(z, twice), _line, t, spec.epsilon)


def _times(n: int, random: Random, spec: PathLengthSettings, like: Tensor) -> Tensor:
    t = random.uniform(n).to(like.device)
    return t if spec.sampling == "full" else torch.zeros_like(t)


def _both(ends: Codes, way: Callable[[Tensor, Tensor, Tensor], Tensor], t: Tensor, epsilon: float) -> tuple[Codes, Codes]:
    a, b = ({name: way(code[0::2], code[1::2], s) for name, code in ends.items()} for s in (t, t + epsilon))
    return a, b


def _line(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    return a + (b - a) * t.view(-1, *[1] * (a.dim() - 1))


def _arc(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """At the length that Gaussian codes have, which a mapping that begins by normalising them does not see."""
    flat = slerp(a.flatten(1), b.flatten(1), t[:, None])
    return (flat * flat.shape[1] ** 0.5).view_as(a)


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Compute the point at t [B, 1] of the great arc from a [B, D] to b, of length one (the authors' form of Shoemake 1985)."""
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    cosine = (a * b).sum(1, keepdim=True).clamp(-1, 1)
    angle = t * torch.acos(cosine)
    across = F.normalize(b - cosine * a, dim=1)
    return F.normalize(a * torch.cos(angle) + across * torch.sin(angle), dim=1)


def face_crop(images: Tensor) -> Tensor:
    """Rows 3/8 to 7/8 and columns 2/8 to 6/8 of images [B, C, H, W]; of those less than 8 pixels high or wide, all."""
    height, width = images.shape[2] // 8, images.shape[3] // 8
    return images[:, :, 3 * height : 7 * height, 2 * width : 6 * width] if height and width else images


def to_viewing_size(images: Tensor) -> Tensor:
    """Return images averaged over boxes until their height is below twice 256, the size that VGG was made for."""
    factor = images.shape[2] // LARGEST
    return F.avg_pool2d(images, factor) if factor > 1 else images


def summary(distances: Tensor, lowest: float = 1, highest: float = 99) -> PathLength:
    """Compute the mean of distances [n] between two percentiles, both ends included.

    Raises: UserError for fewer than two, or any that is not finite.
    """
    if len(distances) < 2:
        raise UserError(
            f"{len(distances)} pairs are too few for a path length, at least 2 are needed: the published ones take 100,000"
        )
    if not bool(torch.isfinite(distances).all()):
        raise UserError("some distances along a path are not finite: the model's images or the features are not")
    values = distances.double().numpy()
    low = float(np.percentile(values, lowest, method="lower"))
    high = float(np.percentile(values, highest, method="higher"))
    kept = values[(values >= low) & (values <= high)]
    return PathLength(float(kept.mean()), float(kept.std(ddof=1) / len(kept) ** 0.5), len(kept), low, high, distances)
