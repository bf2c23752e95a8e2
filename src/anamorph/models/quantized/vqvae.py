"""The vector-quantised variational autoencoder (VQ-VAE): images as grids of discrete codes.

van den Oord, Vinyals, Kavukcuoglu 2017, "Neural Discrete Representation Learning", arXiv:1711.00937, equations 1 to 3; or with
finite scalars (Mentzer et al. 2023, arXiv:2309.15505) or residual codes (Lee et al. 2022, arXiv:2203.01941).
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
    """Sizes, quantiser and likelihood."""

    stride: int = 4
    """Pixels per code along each side; a power of two."""
    width: int = 128
    """Channels of the features (256 in the paper)."""
    residual_blocks: int = 2
    """Residual blocks in encoder and decoder."""
    residual_channels: int = 32
    """Channels inside a residual block."""
    quantizer: Literal["codebook", "residual", "scalar"] = "codebook"
    """codebook: the nearest of learned vectors. residual: several codebooks in sequence, each of the residual of those before.
    scalar: each feature is rounded to a few levels; there is no codebook, and so no unused code."""
    codes_per_position: int = 1
    """Codes at each position. codebook: each quantises a part of the features, by one codebook (the paper has 10 for CIFAR-10).
    residual: stages."""
    num_embeddings: int = 512
    """Number of codes in a codebook."""
    embedding_dim: int = 64
    """Dimension of a code's vector."""
    fsq_levels: tuple[int, ...] = (8, 5, 5, 5)
    """scalar: number of levels of each feature of a code."""
    codebook_update: CodebookUpdate = "ema"
    """ema: codebooks are moving averages of their inputs. gradient: as in the paper."""
    commitment_cost: float = 0.25
    """Weight of the commitment loss, the mean of (z - sg(e))^2 over all values (beta)."""
    ema_decay: float = 0.99
    """ema: decay of the moving averages, per step."""
    restart_threshold: float = 0.01
    """Codes used less than this share of the mean are restarted at outputs of the encoder; 0: never, as in the paper."""
    kmeans_init: bool = True
    """Initialise codebooks by iterations of k-means."""
    likelihood: LikelihoodKind = "shared"
    """p(x | codes). shared: a mean per pixel and one variance, that is, squared error. gaussian, bernoulli: a distribution per
    pixel. logistic: mixtures of logistics of 8-bit values. pixelcnn: each pixel also given those before it."""
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
                f"num_embeddings, width and fsq_levels must be at least 2, got {self.num_embeddings}, {self.width} and "
                f"{self.fsq_levels}"
            )


class VQVAE(Encodes, HasDecoderLikelihood):
    """Maps images [B, C, H, W] in [-1, 1] to codes [B, maps, H / stride, W / stride] (whole numbers) and back."""

    signal: Image

    def __init__(self, signal: Image, config: VQVAEConfig) -> None:
        super().__init__()
        self.signal, self.config = signal, config
        c = config
        check_stride(signal.height, signal.width, c.stride)
        self.quantizer = _quantizer(c)
        self.likelihood = build_likelihood(c.likelihood, signal, c.likelihood_config)
        self.quantity = self.likelihood.quantity
        self.feature_groups = 1 if c.quantizer == "residual" else c.codes_per_position
        features = self.feature_groups * self.quantizer.dim
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
        """Quantise the encoder's output (equation 2).

        Args:
            x: images [B, C, H, W].
            random: given while training; codebooks then gather statistics.

        Returns: vectors [B, maps, h, w, D] (one map for residual stages, which are summed) and ids [B, maps, h, w].
        """
        z: Tensor = self.project(self.encoder(x))
        quantized: QuantizerOutput = self.quantizer(z.unflatten(1, (self.feature_groups, -1)).movedim(2, -1), random)
        if isinstance(self.quantizer, ResidualQuantizer):
            quantized.ids = quantized.ids.movedim(0, 1).squeeze(2)  # [stages, B, 1, h, w]
        return quantized

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """Return the decoder's output [B, outputs, H, W], the parameters of p(x | codes), for vectors [B, maps, h, w, D]."""
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
    codebooks = [
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
    return ResidualQuantizer(codebooks) if c.quantizer == "residual" else codebooks[0]


def recipe(model: VQVAE) -> Recipe:
    """One phase, equation 3: -log p(x | codes) per value, the commitment loss and, with gradients, the codebook loss.

    If all pixels share a variance, -log p(x | codes) is the squared error.
    """
    c, likelihood = model.config, model.likelihood

    def reconstruction(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        x = batch.signals
        quantized = model.quantize(x, random)
        out = model.decode_vectors(quantized.vectors)
        likelihood.gather(x, out)
        if isinstance(likelihood, SharedGaussian):
            terms = {"squared_error": likelihood.squared_error(x, out)}
        else:
            terms = {"nats_per_value": -likelihood.log_prob(x, out).mean() / model.signal.num_values}
        terms["commitment"] = c.commitment_cost * quantized.commitment_loss
        if c.codebook_update == "gradient" and c.quantizer != "scalar":
            terms["codebook"] = quantized.codebook_loss
        usage = {f"perplexity_{i}": perplexity(codebook.counts) for i, codebook in enumerate(codebooks)}
        return LossOutput(terms, usage)

    codebooks = [module for module in model.quantizer.modules() if isinstance(module, Codebook)]
    return Recipe(
        phases=(
            Phase("reconstruction", reconstruction, (model,), ("adam",), commit=(model.quantizer.commit, likelihood.commit)),
        ),
        optimizers={"adam": Adam(list(model.parameters()), c.learning_rate)},
    )
