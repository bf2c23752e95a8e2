"""Projection recovers samples of a model, and is never worse than its start."""

from __future__ import annotations

import pytest
import torch

from anamorph.core.errors import UserError
from anamorph.core.model import Encodes, Samples
from anamorph.core.random import Seeded
from anamorph.core.space import Codes
from anamorph.edit.project import CodeStatistics, OptimisedSpace, nearest_samples, project
from small import make_run


def sampled(case: str, seed: int = 3) -> tuple[Samples, Codes, torch.Tensor]:
    model = make_run(case).model.requires_grad_(False)
    assert isinstance(model, Samples)
    codes = model.sample_codes(2, Seeded(seed, "wanted"))
    return model, codes, model.decode(codes)


@pytest.mark.parametrize("case", ["alae", "gan", "vae", "stylegan", "stylealae"])
def test_a_sample_is_recovered(case: str) -> None:
    model, _, x = sampled(case)
    start, statistics = nearest_samples(model, x, Seeded(0, "starts"), 64)
    done: list[tuple[int, int]] = []
    found = project(model, x, start, "w", 300, 0.1, statistics=statistics, progress=lambda a, b: done.append((a, b)))
    assert float((found.after / x.square().mean((1, 2, 3))).max()) < 0.01
    assert bool((found.after < found.before).all())
    torch.testing.assert_close(model.decode(found.codes), found.images)
    torch.testing.assert_close((found.images - x).square().mean((1, 2, 3)), found.after)
    assert found.distances is not None
    assert done[-1] == (300, 300)


@pytest.mark.parametrize("space", ["w", "w+", "noise"])
def test_only_the_optimised_space_changes(space: OptimisedSpace) -> None:
    model, _, x = sampled("stylealae")
    assert isinstance(model, Encodes)
    start = model.encode(x)
    found = project(model, x, start, space, 20, 0.05)
    w = found.codes["w"]
    shared = torch.equal(w, w[:, :1].expand_as(w))
    assert shared == (space != "w+")
    noise = {name: value for name, value in found.codes.items() if name != "w"}
    assert bool(noise) == (space == "noise")
    for value in noise.values():
        torch.testing.assert_close(value.mean((2, 3)), torch.zeros(2, 1), atol=1e-4, rtol=0)
    assert bool((found.after <= found.before).all())
    assert found.distances is None


def test_a_projection_is_never_worse_than_its_start_and_a_prior_weight_keeps_it_near() -> None:
    model, expected, x = sampled("alae")
    perfect = project(model, x, expected, steps=5, learning_rate=10.0)
    assert bool((perfect.after <= perfect.before + 1e-9).all())
    start = model.sample_codes(2, Seeded(9, "start"))
    statistics = CodeStatistics.of(model.sample_codes(200, Seeded(0, "statistics"))["w"])
    free, near = (
        project(model, x, start, steps=50, statistics=statistics, prior_weight=weight).codes["w"] for weight in (0.0, 10.0)
    )
    assert float((near - start["w"]).norm()) < 0.5 * float((free - start["w"]).norm())


def test_a_perceptual_distance_is_added_to_the_cost() -> None:
    model, expected, x = sampled("alae")

    def dark(image: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return 100 * image.flatten(1).mean(1)

    darker = project(model, x, expected, steps=50, distance=dark)  # from where pixels could not be better
    assert bool((darker.after > darker.before).all())
    assert bool((dark(darker.images, x) < dark(x, x)).all())


def test_a_projection_leaves_the_model_as_it_was() -> None:
    model, start, x = sampled("alae")
    model.requires_grad_(True)
    project(model, x, start, steps=3)
    assert all(p.grad is None for p in model.parameters())


def test_statistics_measure_how_far_codes_are_from_the_mean() -> None:
    codes = 3 * torch.randn(5000, 6, generator=torch.Generator().manual_seed(0)) + 7
    statistics = CodeStatistics.of(codes)
    assert float(statistics.distance(codes).square().mean()) == pytest.approx(1, abs=0.01)
    assert float(statistics.distance(codes[:1] + 30)) > 5


def test_what_cannot_be_projected_is_refused() -> None:
    model, codes, x = sampled("alae")
    with pytest.raises(UserError, match="no layers to optimise one by one"):
        project(model, x, codes, "w+")
    with pytest.raises(UserError, match="needs a model that has noise maps"):
        project(model, x, codes, "noise")
    with pytest.raises(UserError, match="at least one step"):
        project(model, x, codes, steps=0)
    with pytest.raises(UserError, match="learning rate above 0"):
        project(model, x, codes, learning_rate=float("nan"))
    with pytest.raises(UserError, match="prior weight of at least 0"):
        project(model, x, codes, prior_weight=-1.0)
    with pytest.raises(UserError, match="images of 6x4"):
        project(model, x[:, :, :3], codes)
