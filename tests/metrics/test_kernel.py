"""The kernel distance and the inception score, against the reference and by what must hold."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.random import Seeded
from anamorph.metrics import kernel
from anamorph.metrics.inception_score import inception_score
from anamorph.metrics.kernel import kernel_distance, kernel_distance_all_pairs
from reference import committed


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_golden() -> None:
    case = committed("metrics")
    real, fake, wanted = case.tensors["fid.real"], case.tensors["fid.fake"], case.facts["values"]["kid_one_subset_of_260"]
    assert kernel_distance_all_pairs(real[:260], fake) == pytest.approx(wanted, rel=1e-12)
    assert kernel_distance(real[:260], fake, Seeded(0), subsets=1, size=400)[0] == pytest.approx(wanted, rel=1e-12)
    mean, deviation = inception_score(case.tensors["is.probs"])
    assert mean == pytest.approx(case.facts["values"]["is_mean"], rel=1e-6)
    assert deviation == pytest.approx(case.facts["values"]["is_std"], rel=1e-6)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`")
def test_equal_to_torchmetrics() -> None:
    kid = pytest.importorskip("torchmetrics.image.kid", reason="pip install torchmetrics to compare with it")

    class Flat(torch.nn.Module):
        num_features = 12

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)

    a, b = torch.rand(30, 3, 2, 2), torch.rand(30, 3, 2, 2) ** 2
    oracle = kid.KernelInceptionDistance(feature=Flat(), subsets=1, subset_size=30, normalize=True)
    oracle.update(a, real=True)
    oracle.update(b, real=False)
    assert kernel_distance_all_pairs(a.flatten(1), b.flatten(1)) == pytest.approx(float(oracle.compute()[0]), rel=1e-4)


def test_without_bias_and_within_its_error() -> None:
    same = [kernel_distance_all_pairs(normal(40, 5, seed=2 * i), normal(60, 5, seed=2 * i + 1)) for i in range(200)]
    mean, spread = torch.tensor(same).mean(), torch.tensor(same).std() / math.sqrt(200)
    assert abs(float(mean)) < 3 * float(spread)
    assert min(same) < 0
    x, y = normal(500, 5), normal(400, 5, seed=1) + 0.5
    found, error = kernel_distance(x, y, Seeded(0), subsets=50, size=100)
    assert abs(found - kernel_distance_all_pairs(x, y)) < 4 * error
    assert kernel_distance(x, y, Seeded(0), subsets=50, size=100) == (found, error)
    assert kernel_distance_all_pairs(x, y + 0.5) > kernel_distance_all_pairs(x, y) > 0


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normal(50, 3), normal(41, 3, seed=1)
    whole = kernel_distance_all_pairs(x, y)
    monkeypatch.setattr(kernel, "AT_A_TIME", 7)
    assert kernel_distance_all_pairs(x, y) == pytest.approx(whole, rel=1e-12)


def test_a_score_is_one_for_a_shrug_and_the_number_of_classes_for_sure_and_even() -> None:
    assert inception_score(torch.full((40, 5), 0.2))[0] == pytest.approx(1)
    assert inception_score(torch.eye(5).repeat(8, 1), splits=4) == pytest.approx((5, 0))
    assert inception_score(torch.eye(5)[:1].repeat(40, 1))[0] == pytest.approx(1)


def test_bad_input_is_refused() -> None:
    with pytest.raises(UserError, match="1 generated images are too few, at least 2"):
        kernel_distance_all_pairs(normal(5, 3), normal(1, 3))
    with pytest.raises(UserError, match="0 subsets"):
        kernel_distance(normal(5, 3), normal(5, 3), Seeded(0), subsets=0)
    with pytest.raises(UserError, match="5 images are too few for 10 splits"):
        inception_score(torch.full((5, 5), 0.2))
    with pytest.raises(UserError, match="at least two classes"):
        inception_score(torch.ones(20, 1))
    with pytest.raises(UserError, match="no probabilities"):
        inception_score(normal(20, 4))
