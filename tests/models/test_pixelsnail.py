"""The small case of PixelSNAIL, as the priors of two levels of codes, of which the first attends."""

from __future__ import annotations

from dataclasses import replace

from anamorph.models.autoregressive.pixelsnail import PixelSNAILConfig
from cases import STRIDED, Case

SMALL = PixelSNAILConfig(
    width=8,
    residual_channels=4,
    blocks=2,
    residual_blocks=1,
    attention_max_positions=4,
    attention_heads=2,
    condition_channels=4,
    condition_blocks=1,
    output_blocks=1,
    num_classes=2,
)
LEVELS = (replace(SMALL, attention_max_positions=400), SMALL)
SMALL_CASES = {"pixelsnail": Case("pixelsnail", LEVELS, STRIDED, codes_of="vqvae2", prior=True, ties=True)}
