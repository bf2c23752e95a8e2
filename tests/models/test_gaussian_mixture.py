"""The small cases of the priors in closed form: one Gaussian, and mixtures by class."""

from __future__ import annotations

from anamorph.models.closed_form.gaussian_mixture import GaussianConfig, MixtureConfig
from cases import Case

SMALL_CASES = {
    "gaussian": Case("gaussian", GaussianConfig(), codes_of="autoencoder", prior=True, random_loss=False),
    "mixture": Case(
        "mixture", MixtureConfig(num_components=2, num_classes=2), codes_of="autoencoder", prior=True, random_loss=False
    ),
}
