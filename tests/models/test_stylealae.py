"""The small cases of stylealae, which the conformance suite runs."""

from __future__ import annotations

from anamorph.models.adversarial_autoencoders.stylealae import StyleALAEConfig
from cases import STYLED, Case

SMALL_CASES = {
    "stylealae": Case(
        "stylealae", StyleALAEConfig(w_dim=6, mapping_layers=2, channel_base=48, channel_max=5), signal=STYLED, shake=True
    ),
    "stylealae-features": Case(
        "stylealae",
        StyleALAEConfig(w_dim=6, channel_base=48, channel_max=5, w_from="features", regression="z"),
        signal=STYLED,
        shake=True,
    ),
    "stylealae-separate": Case(
        "stylealae",
        StyleALAEConfig(w_dim=6, channel_base=48, channel_max=5, w_from="styles and features", critic_input="images"),
        signal=STYLED,
        shake=True,
    ),
}
