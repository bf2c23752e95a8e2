"""The Fréchet distance: the reference's numbers, the general matrix square root, and what must hold of any such distance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.features.moments import Moments
from anamorph.metrics.frechet import frechet_bias, frechet_distance, frechet_of_features
from reference import committed


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_golden() -> None:
    case = committed("metrics")
    found = frechet_of_features(case.tensors["fid.real"], case.tensors["fid.fake"])
    assert found == pytest.approx(case.facts["values"]["fid"], rel=1e-8)  # its mean was taken in float32


def test_equal_to_the_general_matrix_square_root() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    a, b = normal(400, 64) @ normal(64, 64, seed=1), normal(300, 64, seed=2) @ normal(64, 64, seed=3) + 0.3
    first, second = (np.cov(x.double().numpy(), rowvar=False) for x in (a, b))
    means = a.double().mean(0) - b.double().mean(0)
    wanted = float(means.square().sum()) + np.trace(first + second - 2 * linalg.sqrtm(first @ second).real)
    assert frechet_of_features(a, b) == pytest.approx(wanted, rel=1e-6)


def test_equal_to_torchmetrics() -> None:
    fid = pytest.importorskip("torchmetrics.image.fid", reason="pip install torchmetrics to compare with it")
    a, b = torch.rand(60, 3, 4, 4), torch.rand(50, 3, 4, 4) ** 2

    class Flat(torch.nn.Module):
        num_features = 48

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).float()

    oracle = fid.FrechetInceptionDistance(feature=Flat(), normalize=True).set_dtype(torch.float64)
    oracle.update(a, real=True)
    oracle.update(b, real=False)
    assert frechet_of_features(a.flatten(1), b.flatten(1)) == pytest.approx(float(oracle.compute()), rel=1e-5)


def test_parts_in_any_order_give_the_same_moments() -> None:
    x = normal(500, 7) * torch.arange(1, 8) + 1000
    whole = Moments.of(x)
    parts, other = Moments(7), Moments(7)
    for part in x[:300].split(77):
        parts.add(part)
    other.add(x[300:])
    parts.merge(other)
    assert parts.count == 500
    torch.testing.assert_close(parts.mean, whole.mean)
    torch.testing.assert_close(parts.covariance, whole.covariance)
    torch.testing.assert_close(whole.covariance, x.double().T.cov(), rtol=1e-10, atol=1e-10)


def test_a_set_is_at_no_distance_from_itself_even_without_full_rank() -> None:
    x = normal(300, 20)
    assert frechet_of_features(x, x) < 1e-10
    flat = torch.cat([x, x[:, :4] * 2, torch.zeros(300, 2)], 1)
    assert frechet_of_features(flat, flat) < 1e-6
    assert frechet_of_features(flat, flat + 1) == pytest.approx(26, rel=1e-5)


def pictures(n: int = 400) -> Tensor:
    """Smooth pictures [n, 1, 8, 8] of four kinds."""
    kinds = F.interpolate(normal(4, 1, 3, 3, seed=5), 8, mode="bilinear")
    return kinds[torch.arange(n) % 4] + 0.3 * normal(n, 1, 8, 8, seed=6)


def test_grows_with_blur_noise_and_dropped_modes() -> None:
    x = pictures()
    blurred, noisy = [x], [x + s * normal(400, 1, 8, 8, seed=7) for s in (0.1, 0.3, 1.0)]
    for _ in range(3):
        blurred.append(F.avg_pool2d(F.pad(blurred[-1], (1, 1, 1, 1), mode="replicate"), 3, 1))
    dropped = [x[torch.arange(400) % 4 < kinds] for kinds in (3, 2, 1)]
    for series in (blurred[1:], noisy, dropped):
        found = [frechet_of_features(x.flatten(1), y.flatten(1)) for y in series]
        assert 0 < found[0] < found[1] < found[2]


def test_bias_is_what_two_samples_of_one_law_lie_apart() -> None:
    scale = torch.linspace(0.2, 2, 12)
    found = [
        frechet_of_features(normal(300, 12, seed=2 * i) * scale, normal(500, 12, seed=2 * i + 1) * scale) for i in range(20)
    ]
    moments = Moments.of(normal(20000, 12, seed=99) * scale)
    assert frechet_bias(moments, 300, 500) == pytest.approx(sum(found) / 20, rel=0.1)


def test_bad_features_are_refused() -> None:
    x = normal(50, 4)
    with pytest.raises(UserError, match="50 images are too few for a FID over 60 features: at least 61 .* by about"):
        frechet_of_features(normal(50, 60), normal(80, 60))
    with pytest.raises(UserError, match="1 of 50 generated images are not finite"):
        frechet_of_features(x, torch.where(torch.arange(50)[:, None] == 3, torch.nan, x))
    with pytest.raises(UserError, match="not finite"):
        Moments(4).add(x / 0)
    with pytest.raises(UserError, match="all 50 real images are the same"):
        frechet_of_features(torch.ones(50, 4), x)
    with pytest.raises(UserError, match="4 numbers and generated ones 3"):
        frechet_of_features(x, x[:, :3])
    with pytest.raises(UserError, match="expected \\[N, D\\]"):
        frechet_of_features(x[None], x)
    with pytest.raises(UserError, match="features of 4 and of 3"):
        frechet_distance(Moments.of(x), Moments.of(x[:, :3]))
    with pytest.raises(UserError, match="expected \\[N, 4\\]"):
        Moments(4).add(x[:, :3])
    with pytest.raises(UserError, match="needs at least 2"):
        _ = Moments.of(x[:1]).covariance
