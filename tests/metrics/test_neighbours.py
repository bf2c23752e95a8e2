"""Neighbours among features: the reference's numbers, the authors' own code, and sets of which the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.metrics import blocks
from anamorph.metrics.neighbours import mean_distance, memorisation, nearest_neighbours, neighbour_scores
from reference import committed


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_hand(real: Tensor, generated: Tensor, k: int) -> tuple[float, float, float, float]:
    """Of all distances at once, in float64."""
    real, generated = real.double(), generated.double()

    def distances(a: Tensor, b: Tensor) -> Tensor:
        return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")

    ours, theirs = (distances(x, x).sort(1).values[:, k] for x in (real, generated))
    between = distances(real, generated)
    return (
        float((between <= ours[:, None]).any(0).double().mean()),
        float((between <= theirs[None]).any(1).double().mean()),
        float((between < ours[:, None]).double().sum(0).mean() / k),
        float((between.min(1).values < ours).double().mean()),
    )


def scores(real: Tensor, generated: Tensor, k: int) -> tuple[float, float, float, float]:
    found = neighbour_scores(real, generated, k, k)
    return found.precision, found.recall, found.density, found.coverage


def test_golden() -> None:
    case = committed("metrics")
    wanted = [case.facts["values"][f"{name}_k3"] for name in ("precision", "recall", "density", "coverage")]
    assert scores(case.tensors["pr.real"], case.tensors["pr.fake"], 3) == pytest.approx(wanted, abs=1e-12)


def test_equal_to_the_authors_code(capsys: pytest.CaptureFixture[str]) -> None:
    prdc = pytest.importorskip("prdc", reason="pip install prdc to compare with it")
    real, generated = normal(150, 9), normal(130, 9, seed=1) * 0.8 + 0.3
    wanted = prdc.compute_prdc(real.double().numpy(), generated.double().numpy(), nearest_k=5)
    assert scores(real, generated, 5) == pytest.approx([wanted[k] for k in ("precision", "recall", "density", "coverage")])


def test_blocks_a_far_mean_and_copies_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "SIDE", 32)
    real, generated = normal(100, 16), normal(70, 16, seed=1) * 0.9
    assert scores(real, generated, 3) == pytest.approx(by_hand(real, generated, 3))
    far = 300.0
    assert scores(real.double() + far, generated.double() + far, 3) == pytest.approx(by_hand(real, generated, 3))
    real[:30], generated[:5] = real[0].clone(), real[0].clone()  # balls of no size, with images in their centre
    generated[5:20] = real[30:45]
    assert scores(real, generated, 3) == pytest.approx(by_hand(real, generated, 3))
    assert scores(generated, real, 4) == pytest.approx(by_hand(generated, real, 4))


@pytest.mark.parametrize("columns", [7, 100, 333])
def test_the_smallest_of_rows_that_come_in_blocks(columns: int) -> None:
    values = normal(20, columns).mul(8).round()  # with ties
    for given in (values, values.mT.contiguous().mT):
        found = blocks.Smallest(20, 5, values)
        for first in range(0, columns, 150):
            found.offer(slice(0, 20), given[:, first : first + 150], first)
        assert torch.equal(found.value, values.sort(1).values[:, :5])
        assert torch.equal(values.gather(1, found.index), found.value)


def test_progress_ends_at_its_total(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "SIDE", 32)
    calls: list[tuple[int, int]] = []
    neighbour_scores(normal(100, 3), normal(70, 3, seed=1), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i + 1, 10 + 6 + 12) for i in range(28)]


def test_equal_sets_and_disjoint_ones_and_lost_modes() -> None:
    x = normal(200, 4)
    assert scores(x, x, 3)[:2] == (1, 1)
    assert scores(x, x, 3)[3] == 1
    assert scores(x, x + 100, 3) == (0, 0, 0, 0)
    modes = torch.cat([x + 100 * i for i in range(4)])
    found = neighbour_scores(modes, x[torch.randperm(200)] + 0.01)
    assert found.precision > 0.9
    assert found.recall == pytest.approx(0.25, abs=0.03)
    assert found.coverage == pytest.approx(0.25, abs=0.03)


def test_density_of_the_law_itself_is_one() -> None:
    found = neighbour_scores(normal(600, 3), normal(600, 3, seed=1))
    assert found.density == pytest.approx(1, abs=0.08)
    assert found.coverage == pytest.approx(1 - 0.5**5, abs=0.03)  # Naeem et al., lemma 2, in the limit of equal sizes


def test_nearest_neighbours_are_those_of_all_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "SIDE", 16)
    queries, base = normal(40, 5), normal(70, 5, seed=1)
    distances, rows = nearest_neighbours(queries, base, 4)
    wanted = torch.cdist(queries.double(), base.double()).sort(1)
    torch.testing.assert_close(distances, wanted.values[:, :4], atol=1e-6, rtol=1e-6)
    assert torch.equal(rows, wanted.indices[:, :4])


def test_diversity_is_the_mean_of_all_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "SIDE", 16)
    x = normal(70, 5)
    assert mean_distance(x) == pytest.approx(float(torch.pdist(x.double()).mean()), rel=1e-6)
    assert mean_distance(2 * x) == pytest.approx(2 * mean_distance(x), rel=1e-6)


def test_copies_are_found_and_fresh_images_are_not() -> None:
    train, held, fresh = normal(500, 6), normal(200, 6, seed=1), normal(300, 6, seed=2)
    honest = memorisation(train, held, fresh)
    assert abs(honest.z) < 2.5
    assert abs(honest.closer - 0.5) < 0.07
    copied = train[:300] + 0.01 * fresh
    caught = memorisation(train, held, copied)
    assert caught.closer == 1
    assert caught.z > 10
    assert caught.nearest.tolist() == list(range(300))
    assert memorisation(train, held, held).closer == pytest.approx(0.5)
    stats = pytest.importorskip("scipy.stats")
    oracle = stats.mannwhitneyu(honest.held.numpy(), honest.generated.numpy(), method="asymptotic", use_continuity=False)
    assert honest.closer == pytest.approx(oracle.statistic / (200 * 300))
    assert oracle.pvalue == pytest.approx(2 * stats.norm.sf(abs(honest.z)), rel=1e-6)


def test_bad_features_are_refused() -> None:
    x = normal(50, 3)
    with pytest.raises(UserError, match="5 real images are too few, at least 6 are needed: a ball reaches to the 5th"):
        neighbour_scores(x[:5], x)
    with pytest.raises(UserError, match="k must be at least 1"):
        neighbour_scores(x, x, k=0)
    with pytest.raises(UserError, match="not finite"):
        neighbour_scores(x, x * np.nan)
    with pytest.raises(UserError, match="all 50 generated images are the same"):
        neighbour_scores(x, x[:1].repeat(50, 1))
    with pytest.raises(UserError, match="3 neighbours"):
        nearest_neighbours(x, x[:2], 3)
    with pytest.raises(UserError, match="wanted finite numbers \\[N, 3\\]"):
        nearest_neighbours(x[:, :2], x)
    with pytest.raises(UserError, match="19 held-out images are too few, at least 20"):
        memorisation(x, x[:19], x)
    with pytest.raises(UserError, match="between two"):
        mean_distance(x[:1])
