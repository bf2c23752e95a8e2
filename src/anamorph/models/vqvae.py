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
from anamorph.core.model import Encodes, Explains, Noise
from anamorph.core.optimizer import Adam
from anamorph.core.random import Random
from anamorph.core.recipe import Outcome, Phase, Recipe
from anamorph.core.signal import Batch, Image
from anamorph.core.space import Codes, Space
from anamorph.core.stage import Stage
from anamorph.nn.convolutional import Conv, ConvDecoder, ConvEncoder, check_stride
from anamorph.nn.laws import LawConfig, Likelihoods, SharedGaussian, law_of
from anamorph.nn.quantize import Codebook, FiniteScalar, Learning, Quantized, Quantizer, Residual, perplexity

__all__ = ["VQVAE", "VQVAEConfig", "recipe"]


@dataclass(frozen=True)
class VQVAEConfig:
    """Sizes, quantiser and decoder."""

    stride: int = 4
    """How many pixels a code stands for, along each side; a power of two."""
    width: int = 128
    """Channels of the features (256 in the paper)."""
    blocks: int = 2
    """Residual blocks in encoder and decoder."""
    inner: int = 32
    """Channels inside a residual block."""
    quantizer: Literal["codebook", "residual", "scalar"] = "codebook"
    """codebook: the nearest of learned vectors. residual: several after one another, each of what is left. scalar: features
    rounded to a few levels each; nothing is learned, and nothing can die."""
    maps: int = 1
    """Codes at each place: side by side, each of its own part of the features, all from one codebook (10 for the paper's
    CIFAR); residual: stages."""
    vocabulary: int = 512
    """Codes of a codebook."""
    code_dim: int = 64
    """Features of a code."""
    levels: tuple[int, ...] = (8, 5, 5, 5)
    """scalar: how many values each feature of a code takes."""
    learning: Learning = "average"
    """Codebooks follow running means of what chose them, or learn by gradient, as in the paper."""
    commitment: float = 0.25
    """Weight of |z - sg(e)|^2, the mean over all values."""
    decay: float = 0.99
    """average: of the running means, per step."""
    restart: float = 0.01
    """A code used less than this share of an even use is put at an output of the encoder; 0: never, as in the paper."""
    kmeans: bool = True
    """Begin codebooks with iterations of k-means."""
    likelihood: Likelihoods = "shared"
    """p(x | codes). shared: a mean per pixel and one variance: squared error. gaussian, bernoulli: a law per pixel. logistic:
    mixtures of logistics of 8-bit values. pixelcnn: each pixel given those before it, too."""
    law: LawConfig = LawConfig()
    rate: float = 0.0003
    """Adam's learning rate."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "blocks", "inner", "code_dim", "maps", "levels")
        check(self, "above 0", "rate")
        check(self, "at least 0", "commitment")
        check(self, "in [0, 1)", "decay", "restart")
        if self.vocabulary < 2 or self.width < 2 or min(self.levels) < 2:
            raise UserError(
                f"vocabulary, width and levels must be at least 2, got {self.vocabulary}, {self.width} and {self.levels}"
            )


class VQVAE(Encodes, Explains):
    """Maps images [B, C, H, W] in [-1, 1] to codes [B, maps, H / stride, W / stride], whole numbers, and back."""

    signal: Image

    def __init__(self, signal: Image, config: VQVAEConfig) -> None:
        super().__init__()
        self.signal, self.config = signal, config
        c = config
        check_stride(signal.height, signal.width, c.stride)
        self.quantizer = _quantizer(c)
        self.law = law_of(c.likelihood, signal, c.law)
        self.side_by_side = 1 if c.quantizer == "residual" else c.maps
        features = self.side_by_side * self.quantizer.dim
        self.spaces = (
            Space("codes", (c.maps, signal.height // c.stride, signal.width // c.stride), self.quantizer.vocabulary),
        )
        self.encoder = ConvEncoder(signal.channels, c.width, c.blocks, c.inner, c.stride)
        self.project = Conv(c.width, features, 1)
        self.decoder = ConvDecoder(features, self.law.outputs, c.width, c.blocks, c.inner, c.stride)

    def quantize(self, x: Tensor, random: Random | None = None) -> Quantized:
        """vectors [B, maps, h, w, D] and ids [B, maps, h, w]; of residual stages, whose sum is the vector, [B, 1, h, w, D].

        random: the codebook learns from x.
        """
        z: Tensor = self.project(self.encoder(x))
        found: Quantized = self.quantizer(z.unflatten(1, (self.side_by_side, -1)).movedim(2, -1), random)
        if isinstance(self.quantizer, Residual):
            found.ids = found.ids.movedim(0, 1).squeeze(2)  # [stages, B, 1, h, w]
        return found

    def reconstruct(self, vectors: Tensor) -> Tensor:
        """What p(x | codes) is read off [B, outputs, H, W], from vectors [B, maps, h, w, D]."""
        out: Tensor = self.decoder(vectors.movedim(-1, 2).flatten(1, 2))
        return out

    def encode(self, x: Tensor) -> Codes:
        return {"codes": self.quantize(x).ids}

    def decode(self, codes: Codes, noise: Noise = "fixed") -> Tensor:
        return self.law.draw(self._out(codes), noise)

    def explain(self, x: Tensor, codes: Codes) -> Tensor:
        return self.law.log_prob(x, self._out(codes))

    def _out(self, codes: Codes) -> Tensor:
        ids = codes["codes"]
        if isinstance(self.quantizer, Residual):
            ids = ids.movedim(1, 0).unsqueeze(2)
        return self.reconstruct(self.quantizer.lookup(ids))


def _quantizer(c: VQVAEConfig) -> Quantizer:
    if c.quantizer == "scalar":
        return FiniteScalar(c.levels)
    books = [
        Codebook(c.vocabulary, c.code_dim, c.learning, decay=c.decay, restart=c.restart, kmeans=c.kmeans)
        for _ in range(c.maps if c.quantizer == "residual" else 1)
    ]
    return Residual(books) if c.quantizer == "residual" else books[0]


def recipe(model: VQVAE) -> Recipe:
    """One phase: -log p(x | codes) per value (squared error where all pixels share a variance), and what the encoder and the
    codebook owe each other (equation 3)."""
    c, law = model.config, model.law

    def reconstruction(batch: Batch, stage: Stage, random: Random) -> Outcome:
        x = batch.signals
        found = model.quantize(x, random)
        out = model.reconstruct(found.vectors)
        law.gather(x, out)
        if isinstance(law, SharedGaussian):
            terms = {"squared_error": law.squared_error(x, out)}
        else:
            terms = {"nats_per_value": -law.log_prob(x, out).mean() / model.signal.values}
        terms["commitment"] = c.commitment * found.commitment
        if c.learning == "loss" and c.quantizer != "scalar":
            terms["codebook"] = found.learning
        usage = {f"perplexity_{i}": perplexity(book.counts) for i, book in enumerate(books)}
        return Outcome(terms, usage)

    books = [module for module in model.quantizer.modules() if isinstance(module, Codebook)]
    return Recipe(
        phases=(Phase("reconstruction", reconstruction, (model,), ("adam",), commit=(model.quantizer.commit, law.commit)),),
        optimizers={"adam": Adam(list(model.parameters()), c.rate)},
    )
