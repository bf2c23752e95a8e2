"""Projection (GAN inversion): optimise codes so that they decode to given images.

For models without an encoder, and to refine an encoder's codes. Karras et al. 2019 (StyleGAN2, arXiv:1912.04958, appendix D)
for the learning-rate schedule and the noise maps; Abdal et al. 2019 (arXiv:1904.03189) for one w per layer (W+).
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
"""What is optimised. w: one code for all layers. w+: one for each layer. noise: one code for all layers, and the noise maps."""
Distance = Callable[[Tensor, Tensor], Tensor]
"""A perceptual distance [B] between images [B, C, H, W]."""

NUM_CANDIDATES = 512
"""Sampled codes, of which the nearest are the start where there is no encoder."""
NOISE_WEIGHT = 0.1
"""Weight of the regularisation of noise maps."""


@dataclass(frozen=True)
class CodeStatistics:
    """Mean and standard deviation [*shape] of sampled codes: a rough description of their distribution."""

    mean: Tensor
    deviation: Tensor

    @staticmethod
    def of(codes: Tensor) -> CodeStatistics:
        """Return the statistics of codes [N, *shape]."""
        return CodeStatistics(codes.mean(0), codes.std(0).clamp_min(1e-6))

    def distance(self, codes: Tensor) -> Tensor:
        """Return the root mean square [B] of the standard scores of codes [B, *shape]; that of sampled codes is about 1."""
        return ((codes - self.mean) / self.deviation).square().flatten(1).mean(1).sqrt()


@dataclass(frozen=True)
class Projection:
    """The result of a projection.

    Args:
        codes: optimised, by space [B, ...].
        images: decoded from them [B, C, H, W].
        before: mean squared error of the start [B], pixels in [-1, 1].
        after: mean squared error of the result [B].
        distances: of the codes before and after from the mean of sampled codes [B] (`CodeStatistics.distance`); None without
            statistics.
    """

    codes: Codes
    images: Tensor
    before: Tensor
    after: Tensor
    distances: tuple[Tensor, Tensor] | None


def project(
    model: LatentModel,
    x: Tensor,
    start: Codes,
    space: OptimisedSpace = "w",
    steps: int = 500,
    learning_rate: float = 0.05,
    statistics: CodeStatistics | None = None,
    distance: Distance | None = None,
    prior_weight: float = 0.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Projection:
    """Optimise codes, of several images at once, so that they decode to images x.

    Of each image, the codes with the least cost over all steps are returned, which are never worse than the start. The cost is
    the pixels' mean squared error plus the terms below.

    Args:
        model: decodes the codes.
        x: images [B, C, H, W] in [-1, 1].
        start: codes from which the optimisation starts [B, ...].
        space: what is optimised.
        steps: of Adam, at least 1.
        learning_rate: of Adam, in standard deviations of the codes (or in units of 1, without statistics); above 0.
        statistics: of sampled codes.
        distance: added to the cost, such as a perceptual distance.
        prior_weight: weight of the mean squared distance of the codes from the start, in standard deviations; at least 0.
        progress: called with the number of steps that are done, and of all.

    Raises:
        UserError: for codes that are whole numbers, images of another size, or a setting out of its range.
        UnsupportedOperation: if the model lacks the layers or noise maps that would be optimised.
    """
    _check(model, x, steps, learning_rate, prior_weight)
    variables = _Variables.of(model, start, _real_space(model, space), space, statistics)
    optimizer = torch.optim.Adam(variables.tensors, betas=(0.9, 0.999))

    def costs(image: Tensor) -> Tensor:
        cost = _error(image, x) + prior_weight * variables.squared_offset()
        return cost if distance is None else cost + distance(image, x)

    least, best = torch.full((len(x),), math.inf, device=x.device), variables.copy()
    for step in range(steps + 1):
        with torch.enable_grad():
            cost = costs(model.decode(variables.codes()))
            better = cost.detach() < least
            least = torch.where(better, cost.detach(), least)
            best = [torch.where(_expand_as(better, new), new, old) for old, new in zip(best, variables.copy(), strict=True)]
            if step == steps:
                break
            loss = cost.sum() + NOISE_WEIGHT * _noise_regularisation(variables.noise)
            for tensor, gradient in zip(variables.tensors, torch.autograd.grad(loss, variables.tensors), strict=True):
                tensor.grad = gradient
        optimizer.param_groups[0]["lr"] = learning_rate * _lr_schedule(step / steps)
        optimizer.step()
        variables.normalise_noise()
        progress(step + 1, steps)
    variables.restore(best)
    return _result(model, x, start, variables, statistics)


@torch.no_grad()
def _result(
    model: LatentModel, x: Tensor, start: Codes, variables: _Variables, statistics: CodeStatistics | None
) -> Projection:
    codes = {name: value.detach() for name, value in variables.codes().items()}
    images, name = model.decode(codes), variables.space.name
    distances = None if statistics is None else (statistics.distance(start[name]), statistics.distance(codes[name]))
    return Projection(codes, images, _error(model.decode(start), x), _error(images, x), distances)


def _check(model: LatentModel, x: Tensor, steps: int, learning_rate: float, prior_weight: float) -> None:
    if steps < 1 or not 0 < learning_rate < math.inf or not 0 <= prior_weight < math.inf:
        raise UserError(
            "a projection takes at least one step, with a learning rate above 0 and a prior weight of at least 0; got "
            f"{steps}, {learning_rate} and {prior_weight}"
        )
    if tuple(x.shape[1:]) != tuple(model.signal.shape) or not len(x):
        raise UserError(f"this model projects {model.signal.noun}s of {model.signal}, got values of shape {list(x.shape)}")


def nearest_samples(model: Samples, x: Tensor, random: Random, n: int = NUM_CANDIDATES) -> tuple[Codes, CodeStatistics]:
    """Sample n codes; return those whose images are nearest to images x [B, C, H, W], and the statistics of all."""
    codes = model.sample_codes(n, random)
    size = chunk_size(model)
    chunks = []
    for i in range(0, n, size):
        images = model.decode({name: value[i : i + size] for name, value in codes.items()})
        chunks.append(torch.cdist(x.flatten(1), images.flatten(1)))
    nearest = torch.cat(chunks, 1).argmin(1)
    return {name: value[nearest].clone() for name, value in codes.items()}, CodeStatistics.of(codes[code_space(model).name])


def _real_space(model: LatentModel, optimised: OptimisedSpace) -> Space:
    space = code_space(model)
    if space.num_codes is not None:
        raise UserError(f"codes of {space} are whole numbers, which cannot be optimised by gradient descent")
    if optimised == "w+" and not space.layered:
        raise UnsupportedOperation(f"codes of {space} have no layers to optimise one by one", HasStyles)
    return space


class _Variables:
    """The optimised tensors: codes, as standard deviations from the start so that one learning rate suits all, and noise."""

    def __init__(self, start: Codes, space: Space, deviation: Tensor, shared: bool, noise: dict[str, Tensor]) -> None:
        self.start, self.space, self.deviation = start, space, deviation
        value = start[space.name]
        self.offset = torch.zeros_like(value[:, :1] if shared else value).requires_grad_()
        self.noise = [map_.clone().requires_grad_() for map_ in noise.values()]
        self.names = list(noise)
        self.tensors = [self.offset, *self.noise]

    @staticmethod
    def of(
        model: LatentModel, start: Codes, space: Space, optimised: OptimisedSpace, statistics: CodeStatistics | None
    ) -> _Variables:
        """Return variables at the start."""
        value = start[space.name]
        deviation = torch.ones_like(value[0]) if statistics is None else statistics.deviation
        noise: Codes = {}
        if optimised == "noise":
            fixed = require(model, HasNoise, "projecting into noise maps").fixed_noise
            if not fixed:
                raise UserError("this model was built without noise maps: optimise w or w+ instead")
            noise = {name: start.get(name, map_.expand(len(value), -1, -1, -1)) for name, map_ in fixed.items()}
        return _Variables(start, space, deviation, space.layered and optimised != "w+", noise)

    def codes(self) -> Codes:
        """Return the codes that the variables stand for."""
        moved = self.start[self.space.name] + self.offset * self.deviation
        return {**self.start, self.space.name: moved, **dict(zip(self.names, self.noise, strict=True))}

    def squared_offset(self) -> Tensor:
        """Return the mean squared distance from the start [B], in standard deviations."""
        return self.offset.square().flatten(1).mean(1)

    def copy(self) -> list[Tensor]:
        """Return copies of the tensors."""
        return [tensor.detach().clone() for tensor in self.tensors]

    @torch.no_grad()
    def restore(self, values: list[Tensor]) -> None:
        """Set the tensors."""
        for tensor, value in zip(self.tensors, values, strict=True):
            tensor.copy_(value)

    @torch.no_grad()
    def normalise_noise(self) -> None:
        """Normalise noise maps to mean 0 and variance 1."""
        for map_ in self.noise:
            map_.sub_(map_.mean((2, 3), keepdim=True))
            map_.div_(map_.std((2, 3), keepdim=True).clamp_min(1e-8))


def _error(images: Tensor, x: Tensor) -> Tensor:
    return (images - x).square().flatten(1).mean(1)


def _expand_as(mask: Tensor, value: Tensor) -> Tensor:
    """Reshape a mask [B] so that it broadcasts over values [B, ...]."""
    return mask.view(-1, *[1] * (value.dim() - 1))


def _lr_schedule(t: float) -> float:
    """Return the learning rate's factor at time t in [0, 1): a linear warm-up of 5 %, a cosine decay over the last 25 %."""
    down = min(1.0, (1 - t) / 0.25)
    return min(1.0, (t + 1e-3) / 0.05) * (0.5 - 0.5 * math.cos(math.pi * down))


def _noise_regularisation(noise: list[Tensor]) -> Tensor:
    """Return the squared autocorrelation of neighbouring noise at all scales down to 8 pixels (StyleGAN2, equation 7)."""
    total = torch.zeros(())
    for map_ in noise:
        while True:
            for axis in (2, 3):
                total = total + (map_ * map_.roll(1, axis)).mean((1, 2, 3)).square().sum()
            if min(map_.shape[2:]) <= 8:
                break
            map_ = F.avg_pool2d(map_, 2) * 2  # of the same variance
    return total
