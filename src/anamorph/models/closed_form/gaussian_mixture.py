"""Laws of real codes in closed form: one normal, and a mixture of them, so that a model that only encodes can draw.

Ghosh, Sajjadi, Vergari, Black, Schoelkopf 2019, "From Variational to Deterministic Autoencoders", arXiv:1903.12436, section 4:
after training, a density is fitted to the codes, a single normal or a mixture of ten with full covariances. Here it is fitted
by stepwise expectation maximisation (Cappe and Moulines 2009, arXiv:0712.4273): every batch moves the running moments.
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
from anamorph.core.prior import InpaintingMask, Prior, SamplingSettings
from anamorph.core.progress import Progress, no_progress
from anamorph.core.random import Random
from anamorph.core.space import Codes, Space, check_codes
from anamorph.nn.joint_class import check_class_conditions, joint_class, joint_classes

__all__ = ["Gaussian", "GaussianConfig", "Mixture", "MixtureConfig"]

FORGETTING = 0.6
"""A batch counts t^-0.6 at step t, so that what was found with early, bad guesses is forgotten; any power in (1/2, 1] does."""
LLOYD = 50
"""Steps at the start in which several components are found as those of k-means are: an example counts for the nearest alone."""
FEW = 0.1
"""A component that has less than this share of an even weight then is put elsewhere."""
LEAST = 1e-6
"""What a component weighs at least where something is divided by its weight."""


@dataclass(frozen=True)
class GaussianConfig:
    """One normal."""

    ridge: float = 1e-4
    """Variances are larger by this share, so that codes that are functions of others do no harm."""
    num_classes: int = 0
    """Draw codes of a class: how many there are; 0: without classes."""
    label: str = "class"
    """The label that holds the class."""

    def __post_init__(self) -> None:
        check(self, "above 0", "ridge")
        check(self, "at least 0", "num_classes")


@dataclass(frozen=True)
class MixtureConfig(GaussianConfig):
    """Several normals."""

    num_components: int = 10
    """How many; of each class, where there are such."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "at least 1", "num_components")


class _GaussianMixture(Prior):
    """log p(codes) of real codes [B, *shape], as weighted normals with full covariances, `components` of each class.

    A batch is gathered by `log_prob` while training (told by its random numbers), and `commit` moves the moments.
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
            told = "; ".join(map(str, spaces)) or "none"
            raise UserError(
                f"a law of one space of real codes was asked for, got {told}: whole numbers are for pixelcnn and pixelsnail"
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
                self._gather(x, self._shares(x, joint, allowed), allowed, random)
            return joint.logsumexp(1)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        random: Random,
        condition: Codes | None = None,
        settings: SamplingSettings | None = None,
        mask: InpaintingMask | None = None,
        progress: Progress = no_progress,
    ) -> Codes:
        """temperature scales the deviations from a component's centre.

        Raises: UserError where some codes are to be kept, or only the likeliest to be drawn: real codes cannot be counted.
        """
        condition, settings = condition or {}, settings or SamplingSettings()
        check_codes(condition, self.conditions)
        if mask is not None or settings.top_k is not None or settings.top_p is not None:
            raise UserError("top-k, top-p and keeping some codes are for whole numbers, and this is a law of real codes")
        chances = self._log_weights().exp() * self._allowed(self.means.new_empty(n, 0), condition)
        which = torch.searchsorted(chances.cumsum(1), random.uniform(n, 1)).squeeze(1).clamp_max(len(self.weights) - 1)
        noise = random.normal(n, self.means.shape[1]) * settings.temperature
        x = self.means[which] + torch.einsum("nij,nj->ni", self.cholesky[which], noise)
        return {self.spaces[0].name: x.view(n, *self.spaces[0].shape)}

    def _allowed(self, x: Tensor, condition: Codes) -> Tensor:
        """Which components [B, J] are those of each example's class."""
        own = torch.arange(len(self.weights), device=x.device) // self.num_components
        return own == joint_class(self.conditions, condition, len(x), x.device)[:, None]

    def _log_weights(self) -> Tensor:
        """Of each component within its class [J]."""
        grouped = self.weights.clamp_min(LEAST).view(-1, self.num_components)
        return (grouped / grouped.sum(1, keepdim=True)).log().flatten()

    def _log_densities(self, x: Tensor) -> Tensor:
        """log N(x; centre, covariance) [B, J]."""
        away = (x[:, None] - self.means).movedim(0, 2)  # [J, D, B]
        scaled = torch.linalg.solve_triangular(self.cholesky, away, upper=False)
        log_volume = self.cholesky.diagonal(dim1=1, dim2=2).log().sum(1)
        return -(scaled.square().sum(1).T + x.shape[1] * math.log(2 * math.pi)) / 2 - log_volume

    @torch.no_grad()
    def _shares(self, x: Tensor, joint: Tensor, allowed: Tensor) -> Tensor:
        """How much each component has in each example [B, J]."""
        distances = torch.cdist(x, self.means).masked_fill(~allowed, torch.inf)
        nearest = one_hot(distances.argmin(1), len(self.means)).float()
        return torch.where(self._young, nearest, joint.softmax(1))

    @property
    def _young(self) -> Tensor:
        return self.updates < (LLOYD if self.num_components > 1 else 0)

    @torch.no_grad()
    def _gather(self, x: Tensor, shares: Tensor, allowed: Tensor, random: Random) -> None:
        """Add the moments of a batch, about the present centres; and note an example for each component to begin with."""
        away = x[:, None] - self.means
        self.counts += shares.sum(0)
        self.firsts += torch.einsum("nj,njd->jd", shares, away)
        self.seconds += torch.einsum("nj,njd,nje->jde", shares, away, away)
        lots = random.uniform(len(x), len(self.weights)).masked_fill(~allowed, -1)
        self.candidates.copy_(torch.where(allowed.any(0)[:, None], x[lots.argmax(0)], self.candidates))

    @torch.no_grad()
    def commit(self) -> None:
        """Move the moments by a step."""
        if rank() > 0:
            self.candidates.zero_()  # of all processes, the first one's are used
        sum_over_processes([self.counts, self.firsts, self.seconds, self.candidates])
        total = self.counts.sum()
        counts, firsts, seconds = self.counts / total, self.firsts / total, self.seconds / total
        step = (self.updates + 1.0) ** -self.forgetting
        weights = (1 - step) * self.weights + step * counts
        kept, moved = ((part / weights.clamp_min(LEAST))[:, None] for part in ((1 - step) * self.weights, step))
        shift = moved * firsts
        covariances = kept[..., None] * self.covariances + moved[..., None] * seconds - shift[:, :, None] * shift[:, None]
        seen = weights >= LEAST
        self.weights.copy_(weights)
        self.means.copy_(torch.where(seen[:, None], self.means + shift, self.means))
        self.covariances.copy_(torch.where(seen[:, None, None], covariances, self.covariances))
        even = 1 / len(weights)
        self._put(self._young & ((weights < FEW * even) | (self.updates == 0)), even)
        self.cholesky.copy_(self._roots())
        self.updates += 1
        for gathered in (self.counts, self.firsts, self.seconds):
            gathered.zero_()

    def _put(self, which: Tensor, weight: float) -> None:
        """Put components at examples, as wide as all of them together are."""
        mean = (self.weights[:, None] * self.means).sum(0) / self.weights.sum()
        away = self.means - mean
        spread = self.covariances + away[:, :, None] * away[:, None]
        wide = (self.weights[:, None, None] * spread).sum(0) / self.weights.sum()
        self.covariances.copy_(torch.where(which[:, None, None], wide, self.covariances))
        self.means.copy_(torch.where(which[:, None], self.candidates, self.means))
        self.weights.copy_(torch.where(which, weight, self.weights))

    def _roots(self) -> Tensor:
        """The lower triangular roots of the covariances [J, D, D], ridged."""
        wide = self.covariances.double()
        variances = wide.diagonal(dim1=1, dim2=2)
        floor = self.config.ridge * variances.mean(1, keepdim=True) + torch.finfo(torch.float32).tiny
        return torch.linalg.cholesky_ex(wide + torch.diag_embed(self.config.ridge * (variances + floor)))[0].float()


class Gaussian(_GaussianMixture):
    """One normal, of each class: the moments of all codes that it has been shown, each counting alike."""

    def __init__(self, spaces: Sequence[Space], given: Sequence[Space], config: GaussianConfig) -> None:
        super().__init__(spaces, given, config, num_components=1, forgetting=1.0)


class Mixture(_GaussianMixture):
    """Several normals, of each class."""

    def __init__(self, spaces: Sequence[Space], given: Sequence[Space], config: MixtureConfig) -> None:
        super().__init__(spaces, given, config, config.num_components, FORGETTING)
