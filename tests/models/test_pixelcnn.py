"""The small cases of the gated PixelCNN, as a prior over codes and over pixels."""

from __future__ import annotations

from dataclasses import replace

from anamorph.models.autoregressive.pixelcnn import PixelCNNConfig
from cases import STRIDED, Case

SMALL = PixelCNNConfig(width=6, layers=2, head_channels=6, condition_channels=4)
BY_CLASS = replace(SMALL, num_classes=2, dropout=0.2)
SMALL_CASES = {
    "pixelcnn": Case("pixelcnn", SMALL, STRIDED, codes_of="vqvae", prior=True, random_loss=False, ties=True),
    "pixelcnn-class-chain": Case("pixelcnn", BY_CLASS, STRIDED, codes_of="vqvae2", prior=True, ties=True),
    "pixelcnn-pixels": Case("pixelcnn", SMALL, prior=True, random_loss=False),
}
