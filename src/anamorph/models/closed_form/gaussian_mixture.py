"""Gaussians and Gaussian mixtures over real codes, fitted in closed form, so that a model that only encodes can sample.

Ghosh, Sajjadi, Vergari, Black, Schoelkopf 2019, "From Variational to Deterministic Autoencoders", arXiv:1903.12436, section 4:
after training, a density is fitted to the codes, one Gaussian or a mixture of ten with full covariances. Here it is fitted by
stepwise expectation maximisation (Cappe and Moulines 2009, arXiv:0712.4273): every batch moves the running moments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from anamorph.core.config import check
from anamorph.core.errors import UserError
from anamorph.core.parallel import rank, sum_over_processes
from anamorph.core.precision import autocast_off
from anamorph.core.prior import Prior, SamplingOptions
from anamorph.core.random import Random
from anamorph.core.space import Codes, Space
from anamorph.nn.joint_class import check_class_conditions, joint_class, joint_classes

__all__ = ["Gaussian", "GaussianConfig", "Mixture", "MixtureConfig"]

STEP_SIZE_POWER = 0.6
"""The step size at step t is t^-0.6, so that early responsibilities are forgotten; any power in (1/2, 1] converges."""
KMEANS_STEPS = 50
"""Steps at the start in which responsibilities are those of k-means: an example belongs to the nearest component alone."""
MIN_SHARE = 0.1
"""In these steps, components with less than this share of the mean weight are restarted at an example."""
MIN_WEIGHT = 1e-6
"""Lower bound of weights by which is divided."""


@dataclass(frozen=True)
class GaussianConfig:
    """A Gaussian."""

    ridge: float = 1e-4
    """Share by which variances are increased, so that covariances of dependent dimensions are invertible."""
    num_classes: int = 0
    """Number of classes on which it is conditioned; 0: none."""
    label: str = "class"
    """Name of the label that holds the class."""

    def __post_init__(self) -> None:
        check(self, "above 0", "ridge")
        check(self, "at least 0", "num_classes")


@dataclass(frozen=True)
class MixtureConfig(GaussianConfig):
    """A mixture of Gaussians."""

    num_components: int = 10
    """Number of components, for each class if there are any."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "at least 1", "num_components")


class _GaussianMixture(Prior):
    """A mixture of Gaussians with full covariances over real codes [B, *shape], one mixture for each class.

    Given random numbers (while training), `log_prob` gathers the batch; `commit` then moves the moments.

    Raises: UserError if the codes are whole numbers, or it is given more than one label.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    cholesky: Tensor
    updates: Tensor
    counts: Tensor
    firsts: Tensor
    seconds: Tensor
    candidates: Tensor

    def __init__(
        self,
        spaces: Sequence[Space],
        conditions: Sequence[Space],
        config: GaussianConfig,
        num_components: int,
        forgetting: float,
    ) -> None:
        super().__init__()
        self.spaces, self.conditions = tuple(spaces), tuple(conditions)
        if len(spaces) != 1 or spaces[0].num_codes is not None:
            names = "; ".join(map(str, spaces)) or "none"
            raise UserError(
                f"a Gaussian or a mixture is over one space of real codes, got {names}: for whole numbers, use pixelcnn, "
                "pixelsnail or wavenet"
            )
        check_class_conditions(conditions)
        self.config, self.num_components, self.forgetting = config, num_components, forgetting
        many, dim = num_components * joint_classes(conditions), math.prod(spaces[0].shape)
        self.register_buffer("weights", torch.full((many,), 1 / many))
        self.register_buffer("means", torch.zeros(many, dim))
        self.register_buffer("covariances", torch.eye(dim).repeat(many, 1, 1))
        self.register_buffer("cholesky", torch.eye(dim).repeat(many, 1, 1))
        self.register_buffer("updates", torch.tensor(0))
        for name, shape in {
            "counts": (many,),
            "firsts": (many, dim),
            "seconds": (many, dim, dim),
            "candidates": (many, dim),
        }.items():
            self.register_buffer(name, torch.zeros(shape), persistent=False)

    @classmethod
    def accepts_condition(cls, space: Space) -> bool:
        return space.shape == () and not space.is_real

    def log_prob(self, codes: Codes, condition: Codes | None = None, random: Random | None = None) -> Tensor:
        x = codes[self.spaces[0].name].flatten(1)
        with autocast_off(x):
            x = x.float()
            allowed = self._allowed(x, condition or {})
            joint = (self._log_densities(x) + self._log_weights()).masked_fill(~allowed, -torch.inf)
            if random is not None:
                self._gather(x, self._responsibilities(x, joint, allowed), allowed, random)
            return joint.logsumexp(1)

    def _sample(self, n: int, random: Random, condition: Codes, options: SamplingOptions) -> Codes:
        """Sample n codes; the temperature scales deviations from the mean of a component.

        Raises: UserError for top-k, top-p or a mask, which are for priors that sample one code after another.
        """
        options.require_temperature_only("a distribution of real codes")
        weights = self._log_weights().exp() * self._allowed(self.means.new_empty(n, 0), condition)
        component = torch.searchsorted(weights.cumsum(1), random.uniform(n, 1)).squeeze(1).clamp_max(len(self.weights) - 1)
        noise = random.normal(n, self.means.shape[1]) * options.settings.temperature
        x = self.means[component] + torch.einsum("nij,nj->ni", self.cholesky[component], noise)
        return {self.spaces[0].name: x.view(n, *self.spaces[0].shape)}

    def _allowed(self, x: Tensor, condition: Codes) -> Tensor:
        """Return a mask [B, J] of the components of each example's class."""
        own = torch.arange(len(self.weights), device=x.device) // self.num_components
        return own == joint_class(self.conditions, condition, len(x), x.device)[:, None]

    def _log_weights(self) -> Tensor:
        """Return the log weight of each component within its class [J]."""
        grouped = self.weights.clamp_min(MIN_WEIGHT).view(-1, self.num_components)
        return (grouped / grouped.sum(1, keepdim=True)).log().flatten()

    def _log_densities(self, x: Tensor) -> Tensor:
        """Compute log N(x; mean, covariance) [B, J] of each component."""
        deviation = (x[:, None] - self.means).movedim(0, 2)  # [J, D, B]
        scaled = torch.linalg.solve_triangular(self.cholesky, deviation, upper=False)
        log_volume = self.cholesky.diagonal(dim1=1, dim2=2).log().sum(1)
        return -(scaled.square().sum(1).T + x.shape[1] * math.log(2 * math.pi)) / 2 - log_volume

    @torch.no_grad()
    def _responsibilities(self, x: Tensor, joint: Tensor, allowed: Tensor) -> Tensor:
        """Return the responsibility of each component for each example [B, J]."""
        distances = torch.cdist(x, self.means).masked_fill(~allowed, torch.inf)
        nearest = one_hot(distances.argmin(1), len(self.means)).float()
        return torch.where(self._initialising, nearest, joint.softmax(1))

    @property
    def _initialising(self) -> Tensor:
        return self.updates < (KMEANS_STEPS if self.num_components > 1 else 0)

    @torch.no_grad()
    def _gather(self, x: Tensor, responsibilities: Tensor, allowed: Tensor, random: Random) -> None:
        """Add the moments of a batch about the current means, and store an example at which each component may restart."""
        deviation = x[:, None] - self.means
        self.counts += responsibilities.sum(0)
        self.firsts += torch.einsum("nj,njd->jd", responsibilities, deviation)
        self.seconds += torch.einsum("nj,njd,nje->jde", responsibilities, deviation, deviation)
        priority = random.uniform(len(x), len(self.weights)).masked_fill(~allowed, -1)
        self.candidates.copy_(torch.where(allowed.any(0)[:, None], x[priority.argmax(0)], self.candidates))

    @torch.no_grad()
    def commit(self) -> None:
        """Move the moments by one step of stepwise expectation maximisation."""
        if rank() > 0:
            self.candidates.zero_()  # those of the first process are used
        sum_over_processes([self.counts, self.firsts, self.seconds, self.candidates])
        total = self.counts.sum()
        counts, firsts, seconds = self.counts / total, self.firsts / total, self.seconds / total
        step = (self.updates + 1.0) ** -self.forgetting
        weights = (1 - step) * self.weights + step * counts
        old, new = ((part / weights.clamp_min(MIN_WEIGHT))[:, None] for part in ((1 - step) * self.weights, step))
        shift = new * firsts
        covariances = old[..., None] * self.covariances + new[..., None] * seconds - shift[:, :, None] * shift[:, None]
        used = weights >= MIN_WEIGHT
        self.weights.copy_(weights)
        self.means.copy_(torch.where(used[:, None], self.means + shift, self.means))
        self.covariances.copy_(torch.where(used[:, None, None], covariances, self.covariances))
        even = 1 / len(weights)
        self._restart(self._initialising & ((weights < MIN_SHARE * even) | (self.updates == 0)), even)
        self.cholesky.copy_(self._cholesky_factors())
        self.updates += 1
        for gathered in (self.counts, self.firsts, self.seconds):
            gathered.zero_()

    def _restart(self, unused: Tensor, weight: float) -> None:
        """Move unused components to examples, with the covariance of the whole mixture."""
        mean = (self.weights[:, None] * self.means).sum(0) / self.weights.sum()
        deviation = self.means - mean
        second = self.covariances + deviation[:, :, None] * deviation[:, None]
        total = (self.weights[:, None, None] * second).sum(0) / self.weights.sum()
        self.covariances.copy_(torch.where(unused[:, None, None], total, self.covariances))
        self.means.copy_(torch.where(unused[:, None], self.candidates, self.means))
        self.weights.copy_(torch.where(unused, weight, self.weights))

    def _cholesky_factors(self) -> Tensor:
        """Return the Cholesky factors of the regularised covariances [J, D, D]."""
        wide = self.covariances.double()
        variances = wide.diagonal(dim1=1, dim2=2)
        floor = self.config.ridge * variances.mean(1, keepdim=True) + torch.finfo(torch.float32).tiny
        return torch.linalg.cholesky_ex(wide + torch.diag_embed(self.config.ridge * (variances + floor)))[0].float()


class Gaussian(_GaussianMixture):
    """A Gaussian, for each class if there are any: mean and covariance of all codes, with equal weights."""

    def __init__(self, spaces: Sequence[Space], conditions: Sequence[Space], config: GaussianConfig) -> None:
        super().__init__(spaces, conditions, config, num_components=1, forgetting=1.0)


class Mixture(_GaussianMixture):
    """A mixture of Gaussians, for each class if there are any."""

    def __init__(self, spaces: Sequence[Space], conditions: Sequence[Space], config: MixtureConfig) -> None:
        super().__init__(spaces, conditions, config, config.num_components, STEP_SIZE_POWER)
