"""Settings out of their range are refused."""

from __future__ import annotations

import pytest

from anamorph.core.errors import UserError
from anamorph.core.signal import Image
from anamorph.models.adversarial.gan import GANConfig
from anamorph.models.adversarial_autoencoders.alae import ALAEConfig
from anamorph.models.autoencoders.vae import VAEConfig

IMAGE = Image(2, 6, 4)


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (ALAEConfig, {"w_dim": 0}),
        (ALAEConfig, {"eta_dim": -1}),
        (ALAEConfig, {"resolution": 0}),
        (GANConfig, {"z_dim": 0}),
        (VAEConfig, {"widths": (4, 0)}),
        (VAEConfig, {"importance_samples": 0}),
    ],
)
def test_settings_out_of_range_are_refused(config: type, settings: dict[str, object]) -> None:
    with pytest.raises(UserError, match="at least"):
        config(**settings)
