"""The small cases of autoencoder, which the conformance suite runs."""

from __future__ import annotations

from anamorph.models.autoencoders.autoencoder import AutoencoderConfig
from cases import Case

SMALL_CASES = {
    "autoencoder": Case("autoencoder", AutoencoderConfig(z_dim=5, width=16), random_loss=False),
}
