"""Gaussians and mixtures over real codes: moments of the data, densities that sum to one, samples that follow the density."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.model import HasLikelihood
from anamorph.core.prior import InpaintingMask, Prior, SamplingSettings
from anamorph.core.random import Seeded
from anamorph.core.signal import Batch, Image
from anamorph.core.space import Space
from anamorph.core.stage import Stage
from anamorph.models.autoencoders.vae import VAE, VAEConfig
from anamorph.models.closed_form.gaussian_mixture import Gaussian, GaussianConfig, Mixture, MixtureConfig
from anamorph.models.two_stage import recipe, two_stage

SPACE, KIND = Space("z", (3,)), Space("kind", (), 2, role="label")
CENTRES = torch.tensor([[4.0, 0, 0], [0, 5, 0], [0, 0, -6]])


def three(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Codes [n, 3] around three centres, one of them stretched, and component one [n]."""
    generator = torch.Generator().manual_seed(seed)
    component = torch.randint(3, (n,), generator=generator)
    x = torch.randn(n, 3, generator=generator)
    x[:, 0] *= torch.where(component == 2, 3.0, 1.0)
    return x + CENTRES[component], component


def fit(prior: Prior, x: Tensor, batch: int, epochs: int = 1, kinds: Tensor | None = None) -> None:
    for step in range(epochs * len(x) // batch):
        rows = torch.arange(step * batch, (step + 1) * batch) % len(x)
        given = None if kinds is None else {"kind": kinds[rows]}
        prior.log_prob({"z": x[rows]}, given, Seeded(0, step, "fit"))
        prior.commit()


def test_a_gaussian_has_the_moments_of_the_data() -> None:
    x, _ = three(600)
    prior = Gaussian([SPACE], [], GaussianConfig(ridge=1e-9))
    fit(prior, x, 60)
    torch.testing.assert_close(prior.means[0], x.mean(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(prior.covariances[0], torch.cov(x.T, correction=0), rtol=1e-5, atol=1e-5)
    expected = torch.distributions.MultivariateNormal(x.mean(0), torch.cov(x.T, correction=0)).log_prob(x)
    torch.testing.assert_close(prior.log_prob({"z": x}), expected, rtol=1e-4, atol=1e-4)


def test_a_gaussian_per_class_has_the_moments_of_the_class() -> None:
    x, component = three(600)
    kinds = (component == 2).long()
    prior = Gaussian([SPACE], [KIND], GaussianConfig(num_classes=2))
    fit(prior, x, 60, kinds=kinds)
    for kind in (0, 1):
        torch.testing.assert_close(prior.means[kind], x[kinds == kind].mean(0), rtol=1e-4, atol=1e-4)
    sampled = prior.sample(500, Seeded(0, "draw"), {"kind": torch.ones(500, dtype=torch.long)})["z"]
    assert float((sampled[:, 2] + 6).abs().mean()) < 1.0


def test_a_mixture_fits_as_well_as_scikit_learns() -> None:
    (x, _), (held, _) = three(2000), three(1000, seed=1)
    prior = Mixture([SPACE], [], MixtureConfig(num_components=3))
    fit(prior, x, 100, epochs=10)
    oracle = GaussianMixture(3, random_state=0).fit(x.numpy())
    assert float(prior.log_prob({"z": held}).mean()) > oracle.score(held.numpy()) - 0.02
    assert float(prior.weights.sum()) == pytest.approx(1, abs=1e-4)
    assert torch.cdist(CENTRES, prior.means).min(1).values.max() < 0.3


def test_densities_sum_to_one() -> None:
    prior = Mixture([Space("z", (1,))], [], MixtureConfig(num_components=4))
    generator = torch.Generator().manual_seed(0)
    fit(prior, 5 * torch.randn(500, 1, generator=generator).sign() + torch.randn(500, 1, generator=generator), 50, epochs=8)
    grid = torch.linspace(-20, 20, 8001)[:, None]
    assert float(prior.log_prob({"z": grid}).exp().sum() * 40 / 8000) == pytest.approx(1, abs=1e-4)


def test_samples_follow_the_density() -> None:
    prior = Mixture([SPACE], [], MixtureConfig(num_components=3))
    fit(prior, three(2000)[0], 100, epochs=5)
    sampled = prior.sample(4000, Seeded(0, "draw"))["z"]
    refitted = Gaussian([SPACE], [], GaussianConfig())
    fit(refitted, sampled, 4000)
    mean = (prior.weights[:, None] * prior.means).sum(0) / prior.weights.sum()
    torch.testing.assert_close(refitted.means[0], mean, rtol=0.1, atol=0.2)
    entropy = -float(prior.log_prob({"z": sampled}).mean())
    assert entropy == pytest.approx(math.log(3) + 1.5 * math.log(2 * math.pi * math.e) + math.log(3) / 3, abs=0.15)
    cold = prior.sample(500, Seeded(0, "draw"), settings=SamplingSettings(temperature=0.01))["z"]
    assert float(torch.cdist(cold, prior.means).min(1).values.max()) < 0.2


def test_a_code_that_is_a_function_of_others_is_fitted() -> None:
    x, _ = three(400)
    prior = Mixture([SPACE], [], MixtureConfig(num_components=2))
    fit(prior, torch.stack([x[:, 0], x[:, 0], torch.full_like(x[:, 0], 2.0)], 1), 50, epochs=4)
    sampled = prior.sample(100, Seeded(0, "draw"))["z"]
    assert bool(torch.isfinite(sampled).all())
    torch.testing.assert_close(sampled[:, 0], sampled[:, 1], rtol=0, atol=0.5)
    assert bool(torch.isfinite(prior.log_prob({"z": sampled})).all())


def test_micro_batches_gather_what_the_batch_does() -> None:
    x, _ = three(80)
    whole, parts = (Gaussian([SPACE], [], GaussianConfig()) for _ in range(2))
    whole.log_prob({"z": x}, random=Seeded(0, "a"))
    for part in x.split(20):
        parts.log_prob({"z": part}, random=Seeded(0, "a"))
    whole.commit()
    parts.commit()
    torch.testing.assert_close(parts.covariances, whole.covariances)


def test_evaluation_gathers_nothing() -> None:
    prior = Gaussian([SPACE], [], GaussianConfig())
    prior.log_prob({"z": three(10)[0]})
    assert not bool(prior.counts.any())


def test_a_density_of_codes_is_no_likelihood_of_images() -> None:
    torch.manual_seed(0)
    first = VAE(Image(1, 4, 4), VAEConfig(z_dim=3, widths=(8,)))
    model = two_stage(first, Gaussian([SPACE], [], GaussianConfig()))
    assert not isinstance(model, HasLikelihood)
    phase = recipe(model).phases[0]
    phase.loss(Batch(torch.rand(8, 1, 4, 4)), Stage(0, 8), Seeded(0, "x"))
    phase.commit[0]()
    assert model.sample_codes(2, Seeded(0, "draw"))["z"].shape == (2, 3)


def test_wrong_spaces_conditions_and_settings_are_refused() -> None:
    config = GaussianConfig()
    for spaces in ([Space("codes", (1, 4, 4), 8)], [SPACE, Space("y", (2,))]):
        with pytest.raises(UserError, match="one space of real codes"):
            Gaussian(spaces, [], config)
    with pytest.raises(UserError, match="conditioned on classes alone"):
        Gaussian([SPACE], [Space("top", (2,))], config)
    prior = Gaussian([SPACE], [], config)
    for wrong in (SamplingSettings(top_k=3), SamplingSettings(top_p=0.5)):
        with pytest.raises(UserError, match="for autoregressive priors"):
            prior.sample(2, Seeded(0, "x"), settings=wrong)
    with pytest.raises(UserError, match="for autoregressive priors"):
        prior.sample(2, Seeded(0, "x"), mask=InpaintingMask({}, {}))
