"""The vector-quantised autoencoder: its quantisers."""

from __future__ import annotations

import torch

from anamorph.core.signal import Image
from anamorph.core.space import check_codes
from anamorph.models.quantized.vqvae import VQVAE, VQVAEConfig
from cases import PIXELCNN_LIKELIHOOD, STRIDED, Case

IMAGE = Image(2, 6, 4)
SMALL_CASES = {
    "vqvae": Case(
        "vqvae",
        VQVAEConfig(width=6, residual_blocks=1, residual_channels=5, num_embeddings=11, embedding_dim=3, codes_per_position=2),
        signal=STRIDED,
        random_loss=False,
        ties=True,
    ),
    "vqvae-gradient": Case(
        "vqvae",
        VQVAEConfig(
            stride=2,
            width=6,
            residual_blocks=1,
            residual_channels=5,
            num_embeddings=11,
            embedding_dim=3,
            codebook_update="gradient",
            likelihood="bernoulli",
        ),
        signal=STRIDED,
        random_loss=False,
        ties=True,
    ),
    "vqvae-residual": Case(
        "vqvae",
        VQVAEConfig(
            width=6,
            residual_blocks=1,
            residual_channels=5,
            num_embeddings=7,
            embedding_dim=3,
            quantizer="residual",
            codes_per_position=3,
            likelihood="gaussian",
        ),
        signal=STRIDED,
        random_loss=False,
        ties=True,
    ),
    "vqvae-scalar": Case(
        "vqvae",
        VQVAEConfig(
            width=6,
            residual_blocks=1,
            residual_channels=5,
            quantizer="scalar",
            fsq_levels=(64, 48),
            likelihood="pixelcnn",
            likelihood_config=PIXELCNN_LIKELIHOOD,
        ),
        signal=Image(2, 8, 12),  # decoded pixel by pixel
        random_loss=False,
        ties=True,
        shake=True,
    ),
}


def test_every_quantiser_decodes_its_codes_to_its_reconstruction() -> None:
    x = torch.rand(3, 1, 8, 16) * 2 - 1
    for settings in (
        {"codes_per_position": 3},
        {"quantizer": "residual", "codes_per_position": 3},
        {"quantizer": "scalar", "fsq_levels": (5, 4, 3)},
    ):
        model = VQVAE(
            Image(1, 8, 16), VQVAEConfig(width=6, residual_channels=4, num_embeddings=60, embedding_dim=4, **settings)
        )
        codes = model.encode(x)
        assert check_codes(codes, model.spaces) == 3
        assert model.spaces[0].shape == (settings.get("codes_per_position", 1), 2, 4)
        torch.testing.assert_close(
            model.decode(codes), model.likelihood.sample(model.decode_vectors(model.quantize(x).vectors), "fixed")
        )
