"""The vector-quantised autoencoder: images as maps of whole numbers.

van den Oord, Vinyals, Kavukcuoglu 2017, "Neural Discrete Representation Learning", arXiv:1711.00937; with finite scalars
(Mentzer et al. 2023, arXiv:2309.15505) or residual stages (Lee et al. 2022, arXiv:2203.01941) in place of the codebook.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from anamorph.core.config import check
from anamorph.core.errors import UserError
from anamorph.core.model import Encodes, HasDecoderLikelihood, Labels, Noise
from anamorph.core.optimizer import Adam
from anamorph.core.random import Random
from anamorph.core.recipe import LossOutput, Phase, Recipe
from anamorph.core.signal import Batch, Image
from anamorph.core.space import Codes, Space
from anamorph.core.stage import Stage
from anamorph.nn.convolutional import Conv, ConvDecoder, ConvEncoder, check_stride
from anamorph.nn.pixel_likelihood import LikelihoodConfig, LikelihoodKind, SharedGaussian, build_likelihood
from anamorph.nn.quantize import (
    Codebook,
    CodebookUpdate,
    FiniteScalarQuantizer,
    Quantizer,
    QuantizerOutput,
    ResidualQuantizer,
    perplexity,
)

__all__ = ["VQVAE", "VQVAEConfig", "recipe"]


@dataclass(frozen=True)
class VQVAEConfig:
    """Sizes, quantiser and decoder."""

    stride: int = 4
    """How many pixels a code stands for, along each side; a power of two."""
    width: int = 128
    """Channels of the features (256 in the paper)."""
    residual_blocks: int = 2
    """Residual blocks in encoder and decoder."""
    residual_channels: int = 32
    """Channels inside a residual block."""
    quantizer: Literal["codebook", "residual", "scalar"] = "codebook"
    """codebook: the nearest of learned vectors. residual: several after one another, each of what is left. scalar: features
    rounded to a few levels each; nothing is learned, and nothing can die."""
    codes_per_position: int = 1
    """Codes at each place: side by side, each of its own part of the features, all from one codebook (10 for the paper's
    CIFAR); residual: stages."""
    num_embeddings: int = 512
    """Codes of a codebook."""
    embedding_dim: int = 64
    """Features of a code."""
    fsq_levels: tuple[int, ...] = (8, 5, 5, 5)
    """scalar: how many values each feature of a code takes."""
    codebook_update: CodebookUpdate = "ema"
    """Codebooks follow running means of what chose them, or learn by gradient, as in the paper."""
    commitment_cost: float = 0.25
    """Weight of |z - sg(e)|^2, the mean over all values."""
    ema_decay: float = 0.99
    """average: of the running means, per step."""
    restart_threshold: float = 0.01
    """A code used less than this share of an even use is put at an output of the encoder; 0: never, as in the paper."""
    kmeans_init: bool = True
    """Begin codebooks with iterations of k-means."""
    likelihood: LikelihoodKind = "shared"
    """p(x | codes). shared: a mean per pixel and one variance: squared error. gaussian, bernoulli: a law per pixel. logistic:
    mixtures of logistics of 8-bit values. pixelcnn: each pixel given those before it, too."""
    likelihood_config: LikelihoodConfig = LikelihoodConfig()
    learning_rate: float = 0.0003
    """Adam's learning rate."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "residual_blocks", "residual_channels", "embedding_dim", "codes_per_position", "fsq_levels")
        check(self, "above 0", "learning_rate")
        check(self, "at least 0", "commitment_cost")
        check(self, "in [0, 1)", "ema_decay", "restart_threshold")
        if self.num_embeddings < 2 or self.width < 2 or min(self.fsq_levels) < 2:
            raise UserError(
                f"num-embeddings, width and fsq-levels must be at least 2, got {self.num_embeddings}, {self.width} and "
                f"{self.fsq_levels}"
            )


class VQVAE(Encodes, HasDecoderLikelihood):
    """Maps images [B, C, H, W] in [-1, 1] to codes [B, maps, H / stride, W / stride], whole numbers, and back."""

    signal: Image

    def __init__(self, signal: Image, config: VQVAEConfig) -> None:
        super().__init__()
        self.signal, self.config = signal, config
        c = config
        check_stride(signal.height, signal.width, c.stride)
        self.quantizer = _quantizer(c)
        self.likelihood = build_likelihood(c.likelihood, signal, c.likelihood_config)
        self.quantity = self.likelihood.quantity
        self.side_by_side = 1 if c.quantizer == "residual" else c.codes_per_position
        features = self.side_by_side * self.quantizer.dim
        self.spaces = (
            Space(
                "codes",
                (c.codes_per_position, signal.height // c.stride, signal.width // c.stride),
                self.quantizer.num_embeddings,
            ),
        )
        self.encoder = ConvEncoder(signal.channels, c.width, c.residual_blocks, c.residual_channels, c.stride)
        self.project = Conv(c.width, features, 1)
        self.decoder = ConvDecoder(features, self.likelihood.outputs, c.width, c.residual_blocks, c.residual_channels, c.stride)

    def quantize(self, x: Tensor, random: Random | None = None) -> QuantizerOutput:
        """vectors [B, maps, h, w, D] and ids [B, maps, h, w]; of residual stages, whose sum is the vector, [B, 1, h, w, D].

        random: the codebook learns from x.
        """
        z: Tensor = self.project(self.encoder(x))
        found: QuantizerOutput = self.quantizer(z.unflatten(1, (self.side_by_side, -1)).movedim(2, -1), random)
        if isinstance(self.quantizer, ResidualQuantizer):
            found.ids = found.ids.movedim(0, 1).squeeze(2)  # [stages, B, 1, h, w]
        return found

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """What p(x | codes) is read off [B, outputs, H, W], from vectors [B, maps, h, w, D]."""
        out: Tensor = self.decoder(vectors.movedim(-1, 2).flatten(1, 2))
        return out

    def _encode(self, x: Tensor, labels: Labels) -> Codes:
        return {"codes": self.quantize(x).ids}

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        return self.likelihood.sample(self._decoder_output(codes), noise)

    def decoder_log_likelihood(self, x: Tensor, codes: Codes) -> Tensor:
        return self.likelihood.log_prob(x, self._decoder_output(codes))

    def _decoder_output(self, codes: Codes) -> Tensor:
        ids = codes["codes"]
        if isinstance(self.quantizer, ResidualQuantizer):
            ids = ids.movedim(1, 0).unsqueeze(2)
        return self.decode_vectors(self.quantizer.lookup(ids))


def _quantizer(c: VQVAEConfig) -> Quantizer:
    if c.quantizer == "scalar":
        return FiniteScalarQuantizer(c.fsq_levels)
    books = [
        Codebook(
            c.num_embeddings,
            c.embedding_dim,
            c.codebook_update,
            decay=c.ema_decay,
            restart_threshold=c.restart_threshold,
            kmeans_init=c.kmeans_init,
        )
        for _ in range(c.codes_per_position if c.quantizer == "residual" else 1)
    ]
    return ResidualQuantizer(books) if c.quantizer == "residual" else books[0]


def recipe(model: VQVAE) -> Recipe:
    """One phase: -log p(x | codes) per value (squared error where all pixels share a variance), and what the encoder and the
    codebook owe each other (equation 3)."""
    c, law = model.config, model.likelihood

    def reconstruction(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        x = batch.signals
        found = model.quantize(x, random)
        out = model.decode_vectors(found.vectors)
        law.gather(x, out)
        if isinstance(law, SharedGaussian):
            terms = {"squared_error": law.squared_error(x, out)}
        else:
            terms = {"nats_per_value": -law.log_prob(x, out).mean() / model.signal.num_values}
        terms["commitment"] = c.commitment_cost * found.commitment_loss
        if c.codebook_update == "gradient" and c.quantizer != "scalar":
            terms["codebook"] = found.codebook_loss
        usage = {f"perplexity_{i}": perplexity(book.counts) for i, book in enumerate(books)}
        return LossOutput(terms, usage)

    books = [module for module in model.quantizer.modules() if isinstance(module, Codebook)]
    return Recipe(
        phases=(Phase("reconstruction", reconstruction, (model,), ("adam",), commit=(model.quantizer.commit, law.commit)),),
        optimizers={"adam": Adam(list(model.parameters()), c.learning_rate)},
    )
