"""Laws of real codes: the moments of what was shown, densities that sum to one, draws that follow the density."""

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
    """Codes [n, 3] around three centres, one of them stretched, and which one [n]."""
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(3, (n,), generator=generator)
    x = torch.randn(n, 3, generator=generator)
    x[:, 0] *= torch.where(which == 2, 3.0, 1.0)
    return x + CENTRES[which], which


def shown(law: Prior, x: Tensor, batch: int, epochs: int = 1, kinds: Tensor | None = None) -> None:
    for step in range(epochs * len(x) // batch):
        rows = torch.arange(step * batch, (step + 1) * batch) % len(x)
        given = None if kinds is None else {"kind": kinds[rows]}
        law.log_prob({"z": x[rows]}, given, Seeded(0, step, "fit"))
        law.commit()


def test_one_normal_has_the_moments_of_all_that_it_was_shown() -> None:
    x, _ = three(600)
    law = Gaussian([SPACE], [], GaussianConfig(ridge=1e-9))
    shown(law, x, 60)
    torch.testing.assert_close(law.means[0], x.mean(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(law.covariances[0], torch.cov(x.T, correction=0), rtol=1e-5, atol=1e-5)
    wanted = torch.distributions.MultivariateNormal(x.mean(0), torch.cov(x.T, correction=0)).log_prob(x)
    torch.testing.assert_close(law.log_prob({"z": x}), wanted, rtol=1e-4, atol=1e-4)


def test_one_normal_of_each_class_has_the_moments_of_the_class() -> None:
    x, which = three(600)
    kinds = (which == 2).long()
    law = Gaussian([SPACE], [KIND], GaussianConfig(num_classes=2))
    shown(law, x, 60, kinds=kinds)
    for kind in (0, 1):
        torch.testing.assert_close(law.means[kind], x[kinds == kind].mean(0), rtol=1e-4, atol=1e-4)
    drawn = law.sample(500, Seeded(0, "draw"), {"kind": torch.ones(500, dtype=torch.long)})["z"]
    assert float((drawn[:, 2] + 6).abs().mean()) < 1.0


def test_a_mixture_fits_as_well_as_scikit_learns() -> None:
    (x, _), (held, _) = three(2000), three(1000, seed=1)
    law = Mixture([SPACE], [], MixtureConfig(num_components=3))
    shown(law, x, 100, epochs=10)
    oracle = GaussianMixture(3, random_state=0).fit(x.numpy())
    assert float(law.log_prob({"z": held}).mean()) > oracle.score(held.numpy()) - 0.02
    assert float(law.weights.sum()) == pytest.approx(1, abs=1e-4)
    assert torch.cdist(CENTRES, law.means).min(1).values.max() < 0.3


def test_densities_sum_to_one() -> None:
    law = Mixture([Space("z", (1,))], [], MixtureConfig(num_components=4))
    generator = torch.Generator().manual_seed(0)
    shown(law, 5 * torch.randn(500, 1, generator=generator).sign() + torch.randn(500, 1, generator=generator), 50, epochs=8)
    grid = torch.linspace(-20, 20, 8001)[:, None]
    assert float(law.log_prob({"z": grid}).exp().sum() * 40 / 8000) == pytest.approx(1, abs=1e-4)


def test_draws_follow_the_density() -> None:
    law = Mixture([SPACE], [], MixtureConfig(num_components=3))
    shown(law, three(2000)[0], 100, epochs=5)
    drawn = law.sample(4000, Seeded(0, "draw"))["z"]
    again = Gaussian([SPACE], [], GaussianConfig())
    shown(again, drawn, 4000)
    mean = (law.weights[:, None] * law.means).sum(0) / law.weights.sum()
    torch.testing.assert_close(again.means[0], mean, rtol=0.1, atol=0.2)
    entropy = -float(law.log_prob({"z": drawn}).mean())
    assert entropy == pytest.approx(math.log(3) + 1.5 * math.log(2 * math.pi * math.e) + math.log(3) / 3, abs=0.15)
    cold = law.sample(500, Seeded(0, "draw"), settings=SamplingSettings(temperature=0.01))["z"]
    assert float(torch.cdist(cold, law.means).min(1).values.max()) < 0.2


def test_a_code_that_is_a_function_of_others_does_no_harm() -> None:
    x, _ = three(400)
    law = Mixture([SPACE], [], MixtureConfig(num_components=2))
    shown(law, torch.stack([x[:, 0], x[:, 0], torch.full_like(x[:, 0], 2.0)], 1), 50, epochs=4)
    drawn = law.sample(100, Seeded(0, "draw"))["z"]
    assert bool(torch.isfinite(drawn).all())
    torch.testing.assert_close(drawn[:, 0], drawn[:, 1], rtol=0, atol=0.5)
    assert bool(torch.isfinite(law.log_prob({"z": drawn})).all())


def test_micro_batches_gather_what_the_batch_does() -> None:
    x, _ = three(80)
    whole, parts = (Gaussian([SPACE], [], GaussianConfig()) for _ in range(2))
    whole.log_prob({"z": x}, random=Seeded(0, "a"))
    for part in x.split(20):
        parts.log_prob({"z": part}, random=Seeded(0, "a"))
    whole.commit()
    parts.commit()
    torch.testing.assert_close(parts.covariances, whole.covariances)


def test_looking_does_not_teach() -> None:
    law = Gaussian([SPACE], [], GaussianConfig())
    law.log_prob({"z": three(10)[0]})
    assert not bool(law.counts.any())


def test_a_law_of_densities_is_no_likelihood_of_images() -> None:
    torch.manual_seed(0)
    first = VAE(Image(1, 4, 4), VAEConfig(z_dim=3, widths=(8,)))
    model = two_stage(first, Gaussian([SPACE], [], GaussianConfig()))
    assert not isinstance(model, HasLikelihood)
    phase = recipe(model).phases[0]
    phase.loss(Batch(torch.rand(8, 1, 4, 4)), Stage(0, 8), Seeded(0, "x"))
    phase.commit[0]()
    assert model.sample_codes(2, Seeded(0, "draw"))["z"].shape == (2, 3)


def test_what_does_not_go_together_is_told() -> None:
    config = GaussianConfig()
    for spaces in ([Space("codes", (1, 4, 4), 8)], [SPACE, Space("y", (2,))]):
        with pytest.raises(UserError, match="one space of real codes"):
            Gaussian(spaces, [], config)
    with pytest.raises(UserError, match="conditioned on classes alone"):
        Gaussian([SPACE], [Space("top", (2,))], config)
    law = Gaussian([SPACE], [], config)
    for wrong in (SamplingSettings(top_k=3), SamplingSettings(top_p=0.5)):
        with pytest.raises(UserError, match="for autoregressive priors"):
            law.sample(2, Seeded(0, "x"), settings=wrong)
    with pytest.raises(UserError, match="for autoregressive priors"):
        law.sample(2, Seeded(0, "x"), mask=InpaintingMask({}, {}))
