"""Vectors to whole numbers and back: a learned codebook, finite scalars, and residuals of residuals.

A quantiser reads vectors [..., D] and gives the nearest of its own, their ids, and what the encoder should be told. Its
gradient is passed straight through. It learns nothing in a forward pass: a codebook with running means gathers what it was
shown, and `commit` moves it once per step, after the sums over processes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from anamorph.core.parallel import rank, sum_over_processes
from anamorph.core.precision import autocast_off
from anamorph.core.random import Random

__all__ = [
    "Codebook",
    "CodebookUpdate",
    "FiniteScalarQuantizer",
    "Quantizer",
    "QuantizerOutput",
    "ResidualQuantizer",
    "perplexity",
]

CodebookUpdate = Literal["ema", "gradient"]
"""How a codebook learns. average: each vector is the running mean of what chose it. loss: by gradient, |sg(z) - e|^2."""
MOST_DISTANCES = 1 << 24
"""That are held at a time while searching: 64 MB."""
ROWS, CODES, STRETCH = 1024, 512, 32
"""Distances are found so many by so many on a processor: 2 MB, which stay in its cache. Of each stretch of them the least is
found first, which vector instructions do at once; then where it is."""
LLOYD = 10
"""Steps at the start in which a codebook is moved to the means of what chose it at once."""
LEAST = 0.01
"""The share of an even count that a code which was put elsewhere begins with, at least."""


@dataclass
class QuantizerOutput:
    """vectors [..., D]: the nearest ones, with the gradient of z. ids [...]. commitment: mean (z - sg(e))^2 over all values;
    learning: mean (sg(z) - e)^2, zero where no gradient moves the codebook."""

    vectors: Tensor
    ids: Tensor
    commitment_loss: Tensor
    codebook_loss: Tensor


class Quantizer(nn.Module, ABC):
    """Vectors [..., dim] to ids, `maps` of them per vector, each in 0 .. vocabulary - 1; and back."""

    num_embeddings: int
    dim: int
    num_codes_per_vector: int = 1

    @abstractmethod
    def forward(self, z: Tensor, random: Random | None = None) -> QuantizerOutput:
        """The nearest vectors of z [..., dim]; ids are [...] (`Residual`: [maps, ...]). random: the codebook learns from it."""

    @abstractmethod
    def lookup(self, ids: Tensor) -> Tensor:
        """The exact vectors [..., dim] of ids."""

    def commit(self) -> None:
        """Learn what was gathered since the last step."""


class Codebook(Quantizer):
    """K learned vectors (van den Oord et al. 2017, arXiv:1711.00937, section 3; running means: appendix A.1).

    Running counts begin at one. Begun at zero, as in the first implementations, a vector that nothing chooses in the first
    step is divided by nothing: it flies off a hundred thousandfold and never comes back. Only the divisor is smoothed.
    decay: of the running means. restart: a code whose running count falls below this share of an even one is put where the
    encoder's outputs are, its count and sum with it; 0 never does. kmeans: begin at outputs of the encoder, and take the
    first ten steps as iterations of k-means (Lloyd 1982), each on its own batch.
    """

    vectors: Tensor
    counts: Tensor
    sums: Tensor
    age: Tensor
    new_counts: Tensor
    new_sums: Tensor
    shown: Tensor

    def __init__(
        self,
        num_embeddings: int,
        dim: int,
        update: CodebookUpdate = "ema",
        *,
        decay: float = 0.99,
        restart_threshold: float = 0.0,
        kmeans_init: bool = False,
        smoothing: float = 1e-5,
    ) -> None:
        super().__init__()
        self.num_embeddings, self.dim, self.codebook_update = num_embeddings, dim, update
        self.decay, self.restart_threshold, self.smoothing = decay, restart_threshold, smoothing
        vectors = torch.randn(num_embeddings, dim)
        if update == "gradient":
            self.vectors = nn.Parameter(vectors)
        else:
            self.register_buffer("vectors", vectors)
        self.register_buffer("counts", torch.ones(num_embeddings))
        self.register_buffer("sums", vectors.clone())
        self.register_buffer("age", torch.tensor(0 if kmeans_init else LLOYD))
        self.register_buffer("new_counts", torch.zeros(num_embeddings), persistent=False)
        self.register_buffer("new_sums", torch.zeros(num_embeddings, dim), persistent=False)
        self.register_buffer(
            "shown", torch.zeros(num_embeddings if kmeans_init or restart_threshold else 0, dim), persistent=False
        )

    def forward(self, z: Tensor, random: Random | None = None) -> QuantizerOutput:
        with autocast_off(z):
            z = z.float()
            ids = self.nearest(z)
            chosen = self.lookup(ids)
            if random is not None:
                self._gather(z.detach().flatten(0, -2), ids.flatten(), random)
            commitment = (z - chosen.detach()).square().mean()
            learning = (z.detach() - chosen).square().mean() if self.codebook_update == "gradient" else z.new_zeros(())
            return QuantizerOutput(z + (chosen - z).detach(), ids, commitment, learning)

    def lookup(self, ids: Tensor) -> Tensor:
        return embedding(ids, self.vectors)

    @torch.no_grad()
    def nearest(self, z: Tensor) -> Tensor:
        """The ids [...] of the vectors nearest to z [..., D]; of equally near ones, the lowest.

        |z - e|^2 less |z|^2, which is the same for all: products of matrices, a part at a time.
        """
        flat, half_norms = z.flatten(0, -2), self.vectors.square().sum(1) / 2
        if z.device.type == "cpu" and not torch.compiler.is_compiling():
            return _search(flat.contiguous(), self.vectors, half_norms).view(z.shape[:-1])
        rows = max(1, MOST_DISTANCES // self.num_embeddings)
        parts = [torch.addmm(half_norms, part, self.vectors.t(), alpha=-1).argmin(1) for part in flat.split(rows)]
        return torch.cat(parts).view(z.shape[:-1])

    @torch.no_grad()
    def _gather(self, flat: Tensor, ids: Tensor, random: Random) -> None:
        self.new_counts.index_add_(0, ids, flat.new_ones(len(ids)))
        self.new_sums.index_add_(0, ids, flat)
        if len(self.shown):
            self.shown.copy_(flat[random.integers(0, len(flat), (len(self.shown),), shared=True)])

    @torch.no_grad()
    def commit(self) -> None:
        if rank() > 0:
            self.shown.zero_()  # of all processes, the first one's are used
        sum_over_processes([self.new_counts, self.new_sums, self.shown])
        young = self.age < LLOYD
        weight = torch.where(young, 1.0, 1 - self.decay)
        self.counts.lerp_(self.new_counts, weight)
        self.sums.lerp_(self.new_sums, weight)
        total = self.counts.sum()
        if self.codebook_update == "ema":
            smoothed = (self.counts + self.smoothing) / (total + self.num_embeddings * self.smoothing) * total
            self.vectors.copy_(self.sums / smoothed.unsqueeze(1))
        if len(self.shown):
            even = total / self.num_embeddings
            unused = (self.counts < self.restart_threshold * even) | (young & (self.counts == 0)) | (self.age == 0)
            self._put(unused, max(self.restart_threshold, LEAST) * even)
        self.new_counts.zero_()
        self.new_sums.zero_()
        self.age += 1

    def _put(self, which: Tensor, count: Tensor) -> None:
        """Put vectors where the encoder's outputs are. The sum must go with the count, or the next commit undoes it."""
        self.counts.copy_(torch.where(which, count, self.counts))
        for tensor, value in ((self.vectors, self.shown), (self.sums, self.shown * count)):
            tensor.copy_(torch.where(which.unsqueeze(1), value, tensor))


def _search(z: Tensor, vectors: Tensor, half_norms: Tensor) -> Tensor:
    """The nearest vectors' ids [N] for z [N, D], tile by tile, with no memory taken in between."""
    ids = torch.zeros(len(z), dtype=torch.long)
    scores = torch.empty(min(ROWS, len(z)), min(CODES, len(vectors)))
    blocks = [(vectors[i : i + CODES].t().contiguous(), half_norms[i : i + CODES]) for i in range(0, len(vectors), CODES)]
    for start in range(0, len(z), ROWS):
        part = z[start : start + ROWS]
        best = torch.full((len(part),), torch.inf)
        found = ids[start : start + ROWS]
        for number, (block, norms) in enumerate(blocks):
            tile = scores.flatten()[: len(part) * block.shape[1]].view(len(part), -1)
            torch.addmm(norms, part, block, alpha=-1, out=tile)
            least, where = _least(tile)
            found.copy_(torch.where(least < best, where + number * CODES, found))
            best = torch.minimum(best, least)
    return ids


def _least(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The least of each row, and where it is, the first of equals."""
    if scores.shape[1] % STRETCH:
        least, where = scores.min(1)
        return least, where
    stretches = scores.unflatten(1, (-1, STRETCH))
    least, stretch = stretches.amin(2).min(1)
    inside = stretches[torch.arange(len(scores)), stretch].argmin(1)
    return least, stretch * STRETCH + inside


class FiniteScalarQuantizer(Quantizer):
    """Each of D numbers is rounded to one of a few levels: no codebook, nothing that can die.

    Mentzer et al. 2023, "Finite Scalar Quantization: VQ-VAE Made Simple", arXiv:2309.15505, appendix A.1. Vectors are in
    [-1, 1]; the first dimension is the lowest digit of an id.
    """

    levels: Tensor
    places: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.num_embeddings, self.dim = math.prod(levels), len(levels)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("places", torch.tensor([1, *levels[:-1]]).cumprod(0), persistent=False)

    def forward(self, z: Tensor, random: Random | None = None) -> QuantizerOutput:
        with autocast_off(z):
            half = self.levels // 2
            bounded = self._bound(z.float())
            digits = bounded.detach().round() + half
            vectors = (bounded + (bounded.round() - bounded).detach()) / half
            ids = (digits * self.places).sum(-1).long()
            return QuantizerOutput(vectors, ids, z.new_zeros(()), z.new_zeros(()))

    def _bound(self, z: Tensor) -> Tensor:
        """Into the range that rounds to as many levels as there are; even numbers of them are off centre by a half."""
        width = (self.levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        return (z + (offset / width).atanh()).tanh() * width - offset

    def lookup(self, ids: Tensor) -> Tensor:
        digits = ids.unsqueeze(-1) // self.places % self.levels
        half = self.levels // 2
        return (digits - half) / half


class ResidualQuantizer(Quantizer):
    """One quantiser after another: each reads what the ones before it have left.

    Lee et al. 2022, arXiv:2203.01941, section 3.1; Zeghidour et al. 2021, arXiv:2107.03312, algorithm 1. ids are [maps, ...].
    """

    def __init__(self, stages: Sequence[Quantizer]) -> None:
        super().__init__()
        self.stages = cast(Sequence[Quantizer], nn.ModuleList(stages))
        first = stages[0]
        self.num_embeddings, self.dim, self.num_codes_per_vector = first.num_embeddings, first.dim, len(stages)

    def forward(self, z: Tensor, random: Random | None = None) -> QuantizerOutput:
        z = z.float()
        left, parts = z, []
        for stage in self.stages:
            parts.append(stage(left, random))
            left = left - parts[-1].vectors.detach()
        total = torch.stack([part.vectors.detach() for part in parts]).sum(0)
        return QuantizerOutput(
            z + (total - z).detach(),
            torch.stack([part.ids for part in parts]),
            torch.stack([part.commitment_loss for part in parts]).mean(),
            torch.stack([part.codebook_loss for part in parts]).mean(),
        )

    def lookup(self, ids: Tensor) -> Tensor:
        vectors = [stage.lookup(i) for stage, i in zip(self.stages, ids, strict=True)]
        return torch.stack(vectors).sum(0)

    def commit(self) -> None:
        for stage in self.stages:
            stage.commit()


def perplexity(counts: Tensor) -> Tensor:
    """How many codes there would be if all were used alike: the exponential of the entropy of counts [K]."""
    shares = counts / counts.sum().clamp(min=1e-12)
    return torch.special.entr(shares).sum().exp()
