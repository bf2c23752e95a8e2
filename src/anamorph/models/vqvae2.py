"""VQ-VAE-2: a hierarchy of code maps, the coarse ones for what is where, the fine ones for how it looks.

Razavi, van den Oord, Vinyals 2019, "Generating Diverse High-Fidelity Images with VQ-VAE-2", arXiv:1906.00446, section 3.1
and algorithm 1. Each finer map is computed from the image *and* from the decoded coarser one, so that it holds what that
does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from anamorph.core.config import check
from anamorph.core.errors import UserError
from anamorph.core.model import Encodes, Explains, Noise
from anamorph.core.optimizer import Adam
from anamorph.core.random import Random
from anamorph.core.recipe import Outcome, Phase, Recipe
from anamorph.core.signal import Batch, Image
from anamorph.core.space import Codes, Space
from anamorph.core.stage import Stage
from anamorph.nn.convolutional import Conv, ConvDecoder, ConvEncoder, Enlarging, check_stride
from anamorph.nn.laws import SharedGaussian
from anamorph.nn.quantize import Codebook, Quantized, perplexity

__all__ = ["VQVAE2", "VQVAE2Config", "recipe"]


@dataclass(frozen=True)
class VQVAE2Config:
    """The sizes of the paper's 256x256 model; smaller images do with less."""

    levels: int = 2
    """Of code maps, each finer one with twice the sides."""
    stride: int = 4
    """How many pixels a code of the finest map stands for, along each side."""
    width: int = 128
    """Channels of the features."""
    blocks: int = 2
    """Residual blocks in each encoder and decoder."""
    inner: int = 32
    """Channels inside a residual block."""
    vocabulary: int = 512
    """Codes in each level's codebook."""
    code_dim: int = 64
    """Features of a code."""
    commitment: float = 0.25
    """Weight of |z - sg(e)|^2, the mean over all values, as in the authors' code."""
    decay: float = 0.99
    """Of the codebooks' running means, per step."""
    restart: float = 0.01
    """A code used less than this share of an even use is put at an output of the encoder; 0: never, as in the paper."""
    kmeans: bool = True
    """Begin the codebooks with iterations of k-means; the paper begins at N(0, I)."""
    rate: float = 0.0003
    """Adam's learning rate."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "levels", "blocks", "inner", "code_dim")
        check(self, "above 0", "rate")
        check(self, "at least 0", "commitment")
        check(self, "in [0, 1)", "decay", "restart")
        if self.vocabulary < 2 or self.width < 2:
            raise UserError(f"vocabulary and width must be at least 2, got {self.vocabulary} and {self.width}")


class _Level(nn.Module):
    """One map of codes: what reads it off the features, its codebook, and how it is told to the next finer one."""

    def __init__(self, config: VQVAE2Config, below: int, coarsest: bool, finest: bool) -> None:
        super().__init__()
        c = config
        self.encoder = ConvEncoder(below, c.width, c.blocks, c.inner, c.stride if finest else 2)
        self.project = Conv(c.width + (0 if coarsest else c.code_dim), c.code_dim, 1)
        self.codebook = Codebook(c.vocabulary, c.code_dim, decay=c.decay, restart=c.restart, kmeans=c.kmeans)
        if not finest:
            self.inform = ConvDecoder(c.code_dim, c.code_dim, c.width, c.blocks, c.inner, 2)

    def quantize(self, features: Tensor, random: Random | None) -> Quantized:
        found: Quantized = self.codebook(self.project(features).movedim(1, -1), random)
        return found


class VQVAE2(Encodes, Explains):
    """Maps images [B, C, H, W] in [-1, 1] to codes `top` [B, 1, h, w], the coarsest, to `bottom`, the finest, and back.

    x -> features -> coarser features -> q(top) -> decoded, beside the finer features -> q(bottom); both q -> x
    """

    signal: Image

    def __init__(self, signal: Image, config: VQVAE2Config) -> None:
        super().__init__()
        self.signal, self.config = signal, config
        c, finest = config, config.levels - 1
        check_stride(signal.height, signal.width, c.stride << finest)
        strides = [c.stride << (finest - i) for i in range(c.levels)]  # coarse first
        names = ["top", *(f"middle.{i}" for i in range(1, finest)), "bottom"] if finest else ["bottom"]
        self.spaces = tuple(
            Space(name, (1, signal.height // s, signal.width // s), c.vocabulary)
            for name, s in zip(names, strides, strict=True)
        )
        self.levels = nn.ModuleList(
            _Level(c, signal.channels if i == finest else c.width, coarsest=i == 0, finest=i == finest) for i in range(c.levels)
        )
        self.enlarge = nn.ModuleList(
            nn.Sequential(*(Enlarging(c.code_dim, c.code_dim, 4, 2, 1) for _ in range(finest - i))) for i in range(finest)
        )
        self.decoder = ConvDecoder(c.levels * c.code_dim, signal.channels, c.width, c.blocks, c.inner, c.stride)
        self.law = SharedGaussian(signal)

    @property
    def coarse_first(self) -> Sequence[_Level]:
        return cast(Sequence[_Level], self.levels)

    def quantize(self, x: Tensor, random: Random | None = None) -> list[Quantized]:
        """Each level's quantised vectors [B, h, w, D] and ids [B, h, w], coarse first. random: the codebooks learn from x."""
        features = [x]
        for level in reversed(self.coarse_first):
            features.append(level.encoder(features[-1]))
        found: list[Quantized] = []
        for i, level in enumerate(self.coarse_first):
            own = features[-1 - i]
            if found:
                own = torch.cat([self.coarse_first[i - 1].inform(found[-1].vectors.movedim(-1, 1)), own], 1)
            found.append(level.quantize(own, random))
        return found

    def reconstruct(self, vectors: list[Tensor]) -> Tensor:
        """The mean image from each level's quantised vectors [B, h, w, D], coarse first."""
        maps = [v.movedim(-1, 1) for v in vectors]
        enlarged = [enlarge(m) for enlarge, m in zip(self.enlarge, maps, strict=False)]
        pixels: Tensor = self.decoder(torch.cat([*enlarged, maps[-1]], 1)).float()
        return pixels

    def encode(self, x: Tensor) -> Codes:
        return {s.name: q.ids.unsqueeze(1) for s, q in zip(self.spaces, self.quantize(x), strict=True)}

    def decode(self, codes: Codes, noise: Noise = "fixed") -> Tensor:
        return self.law.draw(self._out(codes), noise)

    def explain(self, x: Tensor, codes: Codes) -> Tensor:
        return self.law.log_prob(x, self._out(codes))

    def _out(self, codes: Codes) -> Tensor:
        ids = [codes[space.name].squeeze(1) for space in self.spaces]
        return self.reconstruct([level.codebook.lookup(i) for level, i in zip(self.coarse_first, ids, strict=True)])


def recipe(model: VQVAE2) -> Recipe:
    """One phase: the mean squared error of pixels in [-1, 1], and the commitment of the encoders to their codes."""

    def reconstruction(batch: Batch, stage: Stage, random: Random) -> Outcome:
        found = model.quantize(batch.signals, random)
        again = model.reconstruct([q.vectors for q in found])
        model.law.gather(batch.signals, again)
        commitment = torch.stack([q.commitment for q in found]).sum()
        terms = {
            "squared_error": model.law.squared_error(batch.signals, again),
            "commitment": model.config.commitment * commitment,
        }
        usage = {f"perplexity_{s.name}": perplexity(b.counts) for s, b in zip(model.spaces, books, strict=True)}
        return Outcome(terms, usage)

    books = [level.codebook for level in model.coarse_first]
    commits = (model.law.commit, *(book.commit for book in books))
    return Recipe(
        phases=(Phase("reconstruction", reconstruction, (model,), ("adam",), commit=commits),),
        optimizers={"adam": Adam(list(model.parameters()), model.config.rate)},
    )
