"""The small cases of WaveNet, as a prior over codes of sounds by class, and over samples."""

from __future__ import annotations

from dataclasses import replace

from anamorph.models.autoregressive.wavenet import WaveNetConfig
from cases import DILATED, SOUND, Case

SMALL_CASES = {
    "wavenet-class": Case(
        "wavenet",
        WaveNetConfig(network=DILATED, condition_channels=4, num_classes=2),
        SOUND,
        codes_of="audio_vqvae",
        prior=True,
        random_loss=False,
        ties=True,
    ),
    "wavenet-samples": Case(
        "wavenet",
        WaveNetConfig(network=replace(DILATED, weight_norm=True, scale_sums=False, dropout=0.1), mixture_components=2),
        SOUND,
        prior=True,
    ),
}
