"""VQ-VAE-2: a hierarchy of grids of discrete codes, coarse ones for global structure, fine ones for detail.

Razavi, van den Oord, Vinyals 2019, "Generating Diverse High-Fidelity Images with VQ-VAE-2", arXiv:1906.00446, section 3.1
and algorithm 1. Each finer grid is encoded from the image and the decoded coarser grid, so that it adds what that lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from anamorph.core.config import check
from anamorph.core.errors import UserError
from anamorph.core.model import Encodes, HasDecoderLikelihood, Labels, Noise
from anamorph.core.optimizer import Adam
from anamorph.core.random import Random
from anamorph.core.recipe import LossOutput, Phase, Recipe
from anamorph.core.signal import Batch, Image
from anamorph.core.space import Codes, Space
from anamorph.core.stage import Stage
from anamorph.nn.convolutional import Conv, ConvDecoder, ConvEncoder, UpConv, check_stride
from anamorph.nn.pixel_likelihood import SharedGaussian
from anamorph.nn.quantize import Codebook, QuantizerOutput, perplexity

__all__ = ["VQVAE2", "VQVAE2Config", "recipe"]


@dataclass(frozen=True)
class VQVAE2Config:
    """Sizes. The defaults are those of the paper's 256x256 model; smaller images need less."""

    num_levels: int = 2
    """Number of grids of codes, each finer one with twice the sides."""
    stride: int = 4
    """Pixels per code of the finest grid, along each side; a power of two."""
    width: int = 128
    """Channels of the features."""
    residual_blocks: int = 2
    """Residual blocks in each encoder and decoder."""
    residual_channels: int = 32
    """Channels inside a residual block."""
    num_embeddings: int = 512
    """Number of codes in each level's codebook."""
    embedding_dim: int = 64
    """Dimension of a code's vector."""
    commitment_cost: float = 0.25
    """Weight of the commitment loss, the mean of (z - sg(e))^2 over all values, as in the authors' code (beta)."""
    ema_decay: float = 0.99
    """Decay of the codebooks' moving averages, per step."""
    restart_threshold: float = 0.01
    """Codes used less than this share of the mean are restarted at outputs of the encoder; 0: never, as in the paper."""
    kmeans_init: bool = True
    """Initialise the codebooks by iterations of k-means; the paper samples them from N(0, I)."""
    learning_rate: float = 0.0003
    """Adam's learning rate."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "num_levels", "residual_blocks", "residual_channels", "embedding_dim")
        check(self, "above 0", "learning_rate")
        check(self, "at least 0", "commitment_cost")
        check(self, "in [0, 1)", "ema_decay", "restart_threshold")
        if self.num_embeddings < 2 or self.width < 2:
            raise UserError(f"num_embeddings and width must be at least 2, got {self.num_embeddings} and {self.width}")


class _Level(nn.Module):
    """One grid of codes: its encoder, its codebook, and the decoder that conditions the next finer level."""

    def __init__(self, config: VQVAE2Config, below: int, coarsest: bool, finest: bool) -> None:
        super().__init__()
        c = config
        self.encoder = ConvEncoder(below, c.width, c.residual_blocks, c.residual_channels, c.stride if finest else 2)
        self.project = Conv(c.width + (0 if coarsest else c.embedding_dim), c.embedding_dim, 1)
        self.codebook = Codebook(
            c.num_embeddings,
            c.embedding_dim,
            decay=c.ema_decay,
            restart_threshold=c.restart_threshold,
            kmeans_init=c.kmeans_init,
        )
        if not finest:
            self.decode_to_finer = ConvDecoder(
                c.embedding_dim, c.embedding_dim, c.width, c.residual_blocks, c.residual_channels, 2
            )

    def quantize(self, features: Tensor, random: Random | None) -> QuantizerOutput:
        """Quantise features; given random numbers, the codebook gathers statistics."""
        quantized: QuantizerOutput = self.codebook(self.project(features).movedim(1, -1), random)
        return quantized


class VQVAE2(Encodes, HasDecoderLikelihood):
    """Maps images [B, C, H, W] in [-1, 1] to codes from `top` [B, 1, h, w], the coarsest, to `bottom`, the finest, and back.

    h_bottom = E_bottom(x),  h_top = E_top(h_bottom),  e_top = quantise(h_top),
    e_bottom = quantise(h_bottom, D_top(e_top)),  x = D(e_top, e_bottom)           (algorithm 1, for two levels)
    """

    signal: Image

    def __init__(self, signal: Image, config: VQVAE2Config) -> None:
        super().__init__()
        self.signal, self.config = signal, config
        c, finest = config, config.num_levels - 1
        check_stride(signal.height, signal.width, c.stride << finest)
        strides = [c.stride << (finest - i) for i in range(c.num_levels)]  # coarse first
        names = ["top", *(f"middle.{i}" for i in range(1, finest)), "bottom"] if finest else ["bottom"]
        self.spaces = tuple(
            Space(name, (1, signal.height // s, signal.width // s), c.num_embeddings)
            for name, s in zip(names, strides, strict=True)
        )
        self.levels = nn.ModuleList(
            _Level(c, signal.channels if i == finest else c.width, coarsest=i == 0, finest=i == finest)
            for i in range(c.num_levels)
        )
        self.upsample = nn.ModuleList(
            nn.Sequential(*(UpConv(c.embedding_dim, c.embedding_dim, 4, 2, 1) for _ in range(finest - i)))
            for i in range(finest)
        )
        self.decoder = ConvDecoder(
            c.num_levels * c.embedding_dim, signal.channels, c.width, c.residual_blocks, c.residual_channels, c.stride
        )
        self.likelihood = SharedGaussian(signal)
        self.quantity = self.likelihood.quantity

    @property
    def coarse_first(self) -> Sequence[_Level]:
        """The levels, the coarsest first."""
        return cast(Sequence[_Level], self.levels)

    def quantize(self, x: Tensor, random: Random | None = None) -> list[QuantizerOutput]:
        """Quantise images, level by level.

        Args:
            x: images [B, C, H, W].
            random: given while training; the codebooks then gather statistics.

        Returns: each level's vectors [B, h, w, D] and ids [B, h, w], the coarsest first.
        """
        features = [x]
        for level in reversed(self.coarse_first):
            features.append(level.encoder(features[-1]))
        quantized: list[QuantizerOutput] = []
        for i, level in enumerate(self.coarse_first):
            own = features[-1 - i]
            if quantized:
                own = torch.cat([self.coarse_first[i - 1].decode_to_finer(quantized[-1].vectors.movedim(-1, 1)), own], 1)
            quantized.append(level.quantize(own, random))
        return quantized

    def decode_vectors(self, vectors: list[Tensor]) -> Tensor:
        """Return the mean image, from each level's vectors [B, h, w, D], the coarsest first."""
        maps = [v.movedim(-1, 1) for v in vectors]
        upsampled = [upsample(m) for upsample, m in zip(self.upsample, maps, strict=False)]
        pixels: Tensor = self.decoder(torch.cat([*upsampled, maps[-1]], 1)).float()
        return pixels

    def _encode(self, x: Tensor, labels: Labels) -> Codes:
        return {s.name: q.ids.unsqueeze(1) for s, q in zip(self.spaces, self.quantize(x), strict=True)}

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        return self.likelihood.sample(self._decoder_output(codes), noise)

    def decoder_log_likelihood(self, x: Tensor, codes: Codes) -> Tensor:
        return self.likelihood.log_prob(x, self._decoder_output(codes))

    def _decoder_output(self, codes: Codes) -> Tensor:
        ids = [codes[space.name].squeeze(1) for space in self.spaces]
        return self.decode_vectors([level.codebook.lookup(i) for level, i in zip(self.coarse_first, ids, strict=True)])


def recipe(model: VQVAE2) -> Recipe:
    """One phase, equation 2: the mean squared error of pixels in [-1, 1], and each level's commitment loss."""

    def reconstruction(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        quantized = model.quantize(batch.signals, random)
        mean = model.decode_vectors([q.vectors for q in quantized])
        model.likelihood.gather(batch.signals, mean)
        commitment = torch.stack([q.commitment_loss for q in quantized]).sum()
        terms = {
            "squared_error": model.likelihood.squared_error(batch.signals, mean),
            "commitment": model.config.commitment_cost * commitment,
        }
        usage = {f"perplexity_{s.name}": perplexity(c.counts) for s, c in zip(model.spaces, codebooks, strict=True)}
        return LossOutput(terms, usage)

    codebooks = [level.codebook for level in model.coarse_first]
    commits = (model.likelihood.commit, *(codebook.commit for codebook in codebooks))
    return Recipe(
        phases=(Phase("reconstruction", reconstruction, (model,), ("adam",), commit=commits),),
        optimizers={"adam": Adam(list(model.parameters()), model.config.learning_rate)},
    )
