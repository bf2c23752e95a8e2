"""Projection: the codes whose image comes closest to a given one, found by optimisation.

For models without an encoder, and to refine what an encoder answers. Karras et al. 2019 (StyleGAN2, arXiv:1912.04958,
appendix D) for the rates and the noise maps; Abdal et al. 2019 (arXiv:1904.03189) for one w per layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.model import HasNoise, HasStyles, LatentModel, Samples, UnsupportedOperation, chunk_size, code_space, require
from anamorph.core.random import Random
from anamorph.core.space import Codes, Space

__all__ = ["CodeStatistics", "Distance", "OptimisedSpace", "Projection", "nearest_samples", "project"]

OptimisedSpace = Literal["w", "w+", "noise"]
"""What is optimised. w: one code for all layers. w+: one for each. noise: one code, and the noise maps."""
Distance = Callable[[Tensor, Tensor], Tensor]
"""A perceptual distance [B] between images [B, C, H, W]."""

NUM_CANDIDATES = 512
"""Drawn codes among which the start is looked for, where there is no other."""
ORDERLY = 0.1
"""The weight of what keeps noise maps free of structure."""


@dataclass(frozen=True)
class CodeStatistics:
    """Mean and standard deviation [D] of each number in codes that a model draws: the learned law, roughly."""

    mean: Tensor
    deviation: Tensor

    @staticmethod
    def of(codes: Tensor) -> CodeStatistics:
        """Of codes [N, *shape]."""
        return CodeStatistics(codes.mean(0), codes.std(0).clamp_min(1e-6))

    def distance(self, codes: Tensor) -> Tensor:
        """How far codes [B, *shape] lie out, as the root mean square of their standard scores [B]: 1 for drawn ones."""
        return ((codes - self.mean) / self.deviation).square().flatten(1).mean(1).sqrt()


@dataclass(frozen=True)
class Projection:
    """Codes and images [B, C, H, W] that were found. before, after: mean squared error [B] of the start and of what was found,
    pixels in [-1, 1]. outside: how far the codes lie from the learned law [B] (1: as drawn ones), before and after; None where
    there is no law to draw from."""

    codes: Codes
    images: Tensor
    before: Tensor
    after: Tensor
    outside: tuple[Tensor, Tensor] | None


def project(
    model: LatentModel,
    x: Tensor,
    start: Codes,
    free: OptimisedSpace = "w",
    steps: int = 500,
    learning_rate: float = 0.05,
    statistics: CodeStatistics | None = None,
    distance: Distance | None = None,
    prior_weight: float = 0.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Projection:
    """Move codes from a start [B, ...] so that they decode to images x [B, C, H, W], all at once; of each image, the best that
    was met is returned, which is never worse than the start.

    rate: of Adam, in standard deviations of the law (or of 1). distance: added to the pixels' mean squared error. stay: weight
    of the codes' mean squared distance, in standard deviations, from their start. What is best has the least sum of the three.
    Raises: UserError for codes that are whole numbers, images of another size, or something that the model lacks.
    """
    _check(model, x, steps, learning_rate, prior_weight)
    space = _free_space(model, free)
    unknowns = _Unknowns.of(model, start, space, free, statistics)
    optimizer = torch.optim.Adam(unknowns.tensors, betas=(0.9, 0.999))

    def costs(image: Tensor) -> Tensor:
        cost = _error(image, x) + prior_weight * unknowns.moved()
        return cost if distance is None else cost + distance(image, x)

    best, kept = torch.full((len(x),), math.inf, device=x.device), unknowns.copied()
    for step in range(steps + 1):
        with torch.enable_grad():
            cost = costs(model.decode(unknowns.codes()))
            better = cost.detach() < best
            best = torch.where(better, cost.detach(), best)
            kept = [torch.where(_like(better, new), new, old) for old, new in zip(kept, unknowns.copied(), strict=True)]
            if step == steps:
                break
            loss = cost.sum() + ORDERLY * _structure(unknowns.noise)
            for tensor, gradient in zip(unknowns.tensors, torch.autograd.grad(loss, unknowns.tensors), strict=True):
                tensor.grad = gradient
        optimizer.param_groups[0]["lr"] = learning_rate * _ramp(step / steps)
        optimizer.step()
        unknowns.settle()
        progress(step + 1, steps)
    unknowns.restore(kept)
    return _outcome(model, x, start, unknowns, statistics)


@torch.no_grad()
def _outcome(model: LatentModel, x: Tensor, start: Codes, unknowns: _Unknowns, law: CodeStatistics | None) -> Projection:
    codes = {name: value.detach() for name, value in unknowns.codes().items()}
    images, name = model.decode(codes), unknowns.space.name
    outside = None if law is None else (law.distance(start[name]), law.distance(codes[name]))
    return Projection(codes, images, _error(model.decode(start), x), _error(images, x), outside)


def _check(model: LatentModel, x: Tensor, steps: int, rate: float, stay: float) -> None:
    if steps < 1 or not 0 < rate < math.inf or not 0 <= stay < math.inf:
        raise UserError(
            f"a projection takes at least one step, at a rate above 0, and staying costs 0 or more; got {steps}, {rate}, {stay}"
        )
    if tuple(x.shape[1:]) != tuple(model.signal.shape) or not len(x):
        raise UserError(f"images of {model.signal} are wanted, got {list(x.shape)}")


def nearest_samples(model: Samples, x: Tensor, random: Random, n: int = NUM_CANDIDATES) -> tuple[Codes, CodeStatistics]:
    """Of n drawn codes, those whose images come closest to images x [B, C, H, W]; and the law that they were drawn from."""
    codes = model.sample_codes(n, random)
    many = chunk_size(model)
    parts = []
    for i in range(0, n, many):
        images = model.decode({name: value[i : i + many] for name, value in codes.items()})
        parts.append(torch.cdist(x.flatten(1), images.flatten(1)))
    nearest = torch.cat(parts, 1).argmin(1)
    return {name: value[nearest].clone() for name, value in codes.items()}, CodeStatistics.of(codes[code_space(model).name])


def _free_space(model: LatentModel, free: OptimisedSpace) -> Space:
    space = code_space(model)
    if space.num_codes is not None:
        raise UserError(f"codes of {space} are whole numbers: they cannot be moved little by little")
    if free == "w+" and not space.layered:
        raise UnsupportedOperation(f"codes of {space} have no layers to free one by one", HasStyles)
    return space


class _Unknowns:
    """What is optimised, in standard deviations from the start, so that one rate suits all; and the codes it stands for."""

    def __init__(self, start: Codes, space: Space, deviation: Tensor, tied: bool, noise: dict[str, Tensor]) -> None:
        self.start, self.space, self.deviation = start, space, deviation
        value = start[space.name]
        self.offset = torch.zeros_like(value[:, :1] if tied else value).requires_grad_()
        self.noise = [map_.clone().requires_grad_() for map_ in noise.values()]
        self.names = list(noise)
        self.tensors = [self.offset, *self.noise]

    @staticmethod
    def of(model: LatentModel, start: Codes, space: Space, free: OptimisedSpace, law: CodeStatistics | None) -> _Unknowns:
        value = start[space.name]
        deviation = torch.ones_like(value[0]) if law is None else law.deviation
        noise: Codes = {}
        if free == "noise":
            fixed = require(model, HasNoise, "projecting into noise maps").fixed_noise
            if not fixed:
                raise UserError("this model was made without noise maps: free w or w+")
            noise = {name: start.get(name, map_.expand(len(value), -1, -1, -1)) for name, map_ in fixed.items()}
        return _Unknowns(start, space, deviation, space.layered and free != "w+", noise)

    def codes(self) -> Codes:
        moved = self.start[self.space.name] + self.offset * self.deviation
        return {**self.start, self.space.name: moved, **dict(zip(self.names, self.noise, strict=True))}

    def moved(self) -> Tensor:
        """The mean squared distance from the start [B]."""
        return self.offset.square().flatten(1).mean(1)

    def copied(self) -> list[Tensor]:
        return [tensor.detach().clone() for tensor in self.tensors]

    @torch.no_grad()
    def restore(self, values: list[Tensor]) -> None:
        for tensor, value in zip(self.tensors, values, strict=True):
            tensor.copy_(value)

    @torch.no_grad()
    def settle(self) -> None:
        """Noise maps keep mean zero and variance one."""
        for map_ in self.noise:
            map_.sub_(map_.mean((2, 3), keepdim=True))
            map_.div_(map_.std((2, 3), keepdim=True).clamp_min(1e-8))


def _error(images: Tensor, x: Tensor) -> Tensor:
    return (images - x).square().flatten(1).mean(1)


def _like(chosen: Tensor, value: Tensor) -> Tensor:
    """A choice [B] for every number of a value [B, ...]."""
    return chosen.view(-1, *[1] * (value.dim() - 1))


def _ramp(t: float) -> float:
    """The rate at a time t in [0, 1): it rises over a twentieth, and falls along a cosine over the last quarter."""
    down = min(1.0, (1 - t) / 0.25)
    return min(1.0, (t + 1e-3) / 0.05) * (0.5 - 0.5 * math.cos(math.pi * down))


def _structure(noise: list[Tensor]) -> Tensor:
    """What neighbouring numbers of noise maps have in common, at all scales down to 8 pixels (StyleGAN2, equation 7)."""
    total = torch.zeros(())
    for map_ in noise:
        while True:
            for axis in (2, 3):
                total = total + (map_ * map_.roll(1, axis)).mean((1, 2, 3)).square().sum()
            if min(map_.shape[2:]) <= 8:
                break
            map_ = F.avg_pool2d(map_, 2) * 2  # keeps the variance
    return total
