"""The small cases of stylegan, which the conformance suite runs."""

from __future__ import annotations

from anamorph.models.adversarial.stylegan import StyleGANConfig
from cases import STYLED, Case

SMALL_CASES = {
    "stylegan": Case(
        "stylegan",
        StyleGANConfig(
            z_dim=3, w_dim=6, mapping_width=4, mapping_layers=2, channel_base=48, channel_max=5, mapping_lr_multiplier=0.1
        ),
        signal=STYLED,
        shake=True,
    ),
}
