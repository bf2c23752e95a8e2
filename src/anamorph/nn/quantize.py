"""Vector quantisation: a learned codebook, finite scalars, and residual stages.

A quantiser reads vectors [..., D], and returns their nearest codes, the ids of these, and losses. The gradient is passed
straight through. A forward pass changes nothing: a codebook with moving averages gathers its inputs, and `commit` moves it
once per step, after summing over processes.
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
"""How a codebook learns. ema: each vector is the moving average of its inputs. gradient: from |sg(z) - e|^2."""
MAX_DISTANCES = 1 << 24
"""Distances held in memory at once during a search: 64 MB."""
TILE_ROWS, TILE_CODES, SEGMENT = 1024, 512, 32
"""On a CPU, distances are computed in tiles of 2 MB, which stay in its cache. The minimum of each segment of codes is computed
first, with vector instructions, then its position."""
KMEANS_STEPS = 10
"""Steps at the start in which k-means moves each code to the mean of its inputs."""
MIN_RESTART_SHARE = 0.01
"""The least count of a restarted code, as a share of the mean count."""


@dataclass
class QuantizerOutput:
    """The result of quantising z [..., D].

    Args:
        vectors: the nearest codes e [..., D], with the gradient of z.
        ids: of these codes [...].
        commitment_loss: mean of (z - sg(e))^2 over all values.
        codebook_loss: mean of (sg(z) - e)^2; zero where no gradient moves the codebook.
    """

    vectors: Tensor
    ids: Tensor
    commitment_loss: Tensor
    codebook_loss: Tensor


class Quantizer(nn.Module, ABC):
    """Maps vectors [..., dim] to `num_codes_per_vector` ids each, in 0 .. num_embeddings - 1, and back."""

    num_embeddings: int
    dim: int
    num_codes_per_vector: int = 1

    @abstractmethod
    def forward(self, z: Tensor, random: Random | None = None) -> QuantizerOutput:
        """Quantise vectors.

        Args:
            z: vectors [..., dim].
            random: given while training; codebooks then gather z for the next commit.
        """

    @abstractmethod
    def lookup(self, ids: Tensor) -> Tensor:
        """Return the vectors [..., dim] of ids."""

    def commit(self) -> None:
        """Apply what was gathered since the last step."""


class Codebook(Quantizer):
    """K learned vectors (van den Oord et al. 2017, arXiv:1711.00937, section 3; moving averages: appendix A.1).

    Counts begin at one. If they began at zero, as in the first implementations, a code unused in the first step would be
    divided by almost zero, and never be used again. Only the divisor is smoothed.

    Args:
        num_embeddings: K.
        dim: D.
        update: how the codebook learns.
        decay: of the moving averages, per step, in [0, 1).
        restart_threshold: a code whose count falls below this share of the mean count is moved to an output of the encoder;
            0: never.
        kmeans_init: begin at outputs of the encoder, and make each of the first ten steps an iteration of k-means (Lloyd
            1982) on its batch.
        smoothing: added to the counts (Laplace).
    """

    vectors: Tensor
    counts: Tensor
    sums: Tensor
    age: Tensor
    new_counts: Tensor
    new_sums: Tensor
    candidates: Tensor

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
        self.register_buffer("age", torch.tensor(0 if kmeans_init else KMEANS_STEPS))
        self.register_buffer("new_counts", torch.zeros(num_embeddings), persistent=False)
        self.register_buffer("new_sums", torch.zeros(num_embeddings, dim), persistent=False)
        self.register_buffer(
            "candidates", torch.zeros(num_embeddings if kmeans_init or restart_threshold else 0, dim), persistent=False
        )

    def forward(self, z: Tensor, random: Random | None = None) -> QuantizerOutput:
        with autocast_off(z):
            z = z.float()
            ids = self.nearest(z)
            vectors = self.lookup(ids)
            if random is not None:
                self._gather(z.detach().flatten(0, -2), ids.flatten(), random)
            commitment = (z - vectors.detach()).square().mean()
            codebook = (z.detach() - vectors).square().mean() if self.codebook_update == "gradient" else z.new_zeros(())
            return QuantizerOutput(z + (vectors - z).detach(), ids, commitment, codebook)

    def lookup(self, ids: Tensor) -> Tensor:
        return embedding(ids, self.vectors)

    @torch.no_grad()
    def nearest(self, z: Tensor) -> Tensor:
        """Return the ids [...] of the codes nearest to z [..., D]; of equally near ones, the lowest.

        Minimises |e|^2 / 2 - z e, which is |z - e|^2 / 2 up to a constant, in chunks of matrix products.
        """
        flat, half_norms = z.flatten(0, -2), self.vectors.square().sum(1) / 2
        if z.device.type == "cpu" and not torch.compiler.is_compiling():
            return _search(flat.contiguous(), self.vectors, half_norms).view(z.shape[:-1])
        rows = max(1, MAX_DISTANCES // self.num_embeddings)
        chunks = [torch.addmm(half_norms, chunk, self.vectors.t(), alpha=-1).argmin(1) for chunk in flat.split(rows)]
        return torch.cat(chunks).view(z.shape[:-1])

    @torch.no_grad()
    def _gather(self, flat: Tensor, ids: Tensor, random: Random) -> None:
        self.new_counts.index_add_(0, ids, flat.new_ones(len(ids)))
        self.new_sums.index_add_(0, ids, flat)
        if len(self.candidates):
            self.candidates.copy_(flat[random.integers(0, len(flat), (len(self.candidates),), shared=True)])

    @torch.no_grad()
    def commit(self) -> None:
        """Move the codebook by a step of the moving averages, and restart unused codes."""
        if rank() > 0:
            self.candidates.zero_()  # those of the first process are used
        sum_over_processes([self.new_counts, self.new_sums, self.candidates])
        initialising = self.age < KMEANS_STEPS
        weight = torch.where(initialising, 1.0, 1 - self.decay)
        self.counts.lerp_(self.new_counts, weight)
        self.sums.lerp_(self.new_sums, weight)
        total = self.counts.sum()
        if self.codebook_update == "ema":
            smoothed = (self.counts + self.smoothing) / (total + self.num_embeddings * self.smoothing) * total
            self.vectors.copy_(self.sums / smoothed.unsqueeze(1))
        if len(self.candidates):
            mean = total / self.num_embeddings
            unused = (self.counts < self.restart_threshold * mean) | (initialising & (self.counts == 0)) | (self.age == 0)
            self._restart(unused, max(self.restart_threshold, MIN_RESTART_SHARE) * mean)
        self.new_counts.zero_()
        self.new_sums.zero_()
        self.age += 1

    def _restart(self, unused: Tensor, count: Tensor) -> None:
        """Move unused codes to outputs of the encoder. The sum is set with the count, or the next commit would undo it."""
        self.counts.copy_(torch.where(unused, count, self.counts))
        for tensor, value in ((self.vectors, self.candidates), (self.sums, self.candidates * count)):
            tensor.copy_(torch.where(unused.unsqueeze(1), value, tensor))


def _search(z: Tensor, vectors: Tensor, half_norms: Tensor) -> Tensor:
    """Return the ids [N] of the vectors nearest to z [N, D], computed in tiles in one buffer."""
    ids = torch.zeros(len(z), dtype=torch.long)
    buffer = torch.empty(min(TILE_ROWS, len(z)), min(TILE_CODES, len(vectors)))
    starts = range(0, len(vectors), TILE_CODES)
    blocks = [(vectors[i : i + TILE_CODES].t().contiguous(), half_norms[i : i + TILE_CODES]) for i in starts]
    for row in range(0, len(z), TILE_ROWS):
        part = z[row : row + TILE_ROWS]
        best = torch.full((len(part),), torch.inf)
        nearest = ids[row : row + TILE_ROWS]
        for start, (block, norms) in zip(starts, blocks, strict=True):
            tile = buffer.flatten()[: len(part) * block.shape[1]].view(len(part), -1)
            torch.addmm(norms, part, block, alpha=-1, out=tile)
            minimum, index = _row_minima(tile)
            nearest.copy_(torch.where(minimum < best, index + start, nearest))
            best = torch.minimum(best, minimum)
    return ids


def _row_minima(distances: Tensor) -> tuple[Tensor, Tensor]:
    """Return the minimum of each row, and its index, the first of equals."""
    if distances.shape[1] % SEGMENT:
        minimum, index = distances.min(1)
        return minimum, index
    segments = distances.unflatten(1, (-1, SEGMENT))
    minimum, segment = segments.amin(2).min(1)
    offset = segments[torch.arange(len(distances)), segment].argmin(1)
    return minimum, segment * SEGMENT + offset


class FiniteScalarQuantizer(Quantizer):
    """Rounds each of D numbers to one of a few levels; there is no codebook, and so no unused code.

    Mentzer et al. 2023, "Finite Scalar Quantization: VQ-VAE Made Simple", arXiv:2309.15505, appendix A.1. Vectors are in
    [-1, 1]; the first dimension is the lowest digit of an id.

    Args:
        levels: number of levels of each dimension, at least 2.
    """

    levels: Tensor
    basis: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.num_embeddings, self.dim = math.prod(levels), len(levels)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("basis", torch.tensor([1, *levels[:-1]]).cumprod(0), persistent=False)

    def forward(self, z: Tensor, random: Random | None = None) -> QuantizerOutput:
        with autocast_off(z):
            half = self.levels // 2
            bounded = self._bound(z.float())
            digits = bounded.detach().round() + half
            vectors = (bounded + (bounded.round() - bounded).detach()) / half
            ids = (digits * self.basis).sum(-1).long()
            return QuantizerOutput(vectors, ids, z.new_zeros(()), z.new_zeros(()))

    def _bound(self, z: Tensor) -> Tensor:
        """Bound z to the range that rounds to as many levels as there are; an even number of levels is shifted by a half."""
        width = (self.levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        return (z + (offset / width).atanh()).tanh() * width - offset

    def lookup(self, ids: Tensor) -> Tensor:
        digits = ids.unsqueeze(-1) // self.basis % self.levels
        half = self.levels // 2
        return (digits - half) / half


class ResidualQuantizer(Quantizer):
    """Several quantisers in sequence, each of which quantises the residual of those before it; ids are [stages, ...].

    Lee et al. 2022, arXiv:2203.01941, section 3.1; Zeghidour et al. 2021, arXiv:2107.03312, algorithm 1.
    """

    def __init__(self, stages: Sequence[Quantizer]) -> None:
        super().__init__()
        self.stages = cast(Sequence[Quantizer], nn.ModuleList(stages))
        first = stages[0]
        self.num_embeddings, self.dim, self.num_codes_per_vector = first.num_embeddings, first.dim, len(stages)

    def forward(self, z: Tensor, random: Random | None = None) -> QuantizerOutput:
        z = z.float()
        residual, outputs = z, []
        for stage in self.stages:
            outputs.append(stage(residual, random))
            residual = residual - outputs[-1].vectors.detach()
        total = torch.stack([output.vectors.detach() for output in outputs]).sum(0)
        return QuantizerOutput(
            z + (total - z).detach(),
            torch.stack([output.ids for output in outputs]),
            torch.stack([output.commitment_loss for output in outputs]).mean(),
            torch.stack([output.codebook_loss for output in outputs]).mean(),
        )

    def lookup(self, ids: Tensor) -> Tensor:
        vectors = [stage.lookup(i) for stage, i in zip(self.stages, ids, strict=True)]
        return torch.stack(vectors).sum(0)

    def commit(self) -> None:
        for stage in self.stages:
            stage.commit()


def perplexity(counts: Tensor) -> Tensor:
    """Return the perplexity of counts [K], the exponential of their entropy: the effective number of codes in use."""
    shares = counts / counts.sum().clamp(min=1e-12)
    return torch.special.entr(shares).sum().exp()
