"""The small cases of vqvae2, which the conformance suite runs."""

from __future__ import annotations

from anamorph.models.quantized.vqvae2 import VQVAE2Config
from cases import STRIDED, Case

SMALL_CASES = {
    "vqvae2": Case(
        "vqvae2",
        VQVAE2Config(width=8, residual_blocks=1, residual_channels=5, num_embeddings=11, embedding_dim=3),
        signal=STRIDED,
        random_loss=False,
        ties=True,
    ),
    "vqvae2-three": Case(
        "vqvae2",
        VQVAE2Config(
            num_levels=3,
            stride=2,
            width=6,
            residual_blocks=1,
            residual_channels=5,
            num_embeddings=11,
            embedding_dim=3,
            restart_threshold=0.0,
            kmeans_init=False,
        ),
        signal=STRIDED,
        random_loss=False,
        ties=True,
    ),
}
