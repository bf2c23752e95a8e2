"""Projection finds again what a model has drawn, and is never worse than its start."""

from __future__ import annotations

import pytest
import torch

from anamorph.core.errors import UserError
from anamorph.core.model import Encodes, Samples
from anamorph.core.random import Seeded
from anamorph.core.space import Codes
from anamorph.edit.project import CodeStatistics, OptimisedSpace, nearest_samples, project
from small import make_run


def drawn(case: str, seed: int = 3) -> tuple[Samples, Codes, torch.Tensor]:
    model = make_run(case).model.requires_grad_(False)
    assert isinstance(model, Samples)
    codes = model.sample_codes(2, Seeded(seed, "wanted"))
    return model, codes, model.decode(codes)


@pytest.mark.parametrize("case", ["alae", "gan", "vae", "stylegan", "stylealae"])
def test_an_own_sample_is_found_again(case: str) -> None:
    model, _, x = drawn(case)
    start, law = nearest_samples(model, x, Seeded(0, "starts"), 64)
    done: list[tuple[int, int]] = []
    found = project(model, x, start, "w", 300, 0.1, statistics=law, progress=lambda a, b: done.append((a, b)))
    assert float((found.after / x.square().mean((1, 2, 3))).max()) < 0.01
    assert bool((found.after < found.before).all())
    torch.testing.assert_close(model.decode(found.codes), found.images)
    torch.testing.assert_close((found.images - x).square().mean((1, 2, 3)), found.after)
    assert found.outside is not None
    assert done[-1] == (300, 300)


@pytest.mark.parametrize("free", ["w", "w+", "noise"])
def test_what_is_free_changes_and_the_rest_stays(free: OptimisedSpace) -> None:
    model, _, x = drawn("stylealae")
    assert isinstance(model, Encodes)
    start = model.encode(x)
    found = project(model, x, start, free, 20, 0.05)
    w = found.codes["w"]
    tied = torch.equal(w, w[:, :1].expand_as(w))
    assert tied == (free != "w+")
    noise = {name: value for name, value in found.codes.items() if name != "w"}
    assert bool(noise) == (free == "noise")
    for value in noise.values():
        torch.testing.assert_close(value.mean((2, 3)), torch.zeros(2, 1), atol=1e-4, rtol=0)
    assert bool((found.after <= found.before).all())
    assert found.outside is None


def test_a_projection_is_never_worse_than_its_start_and_stays_near_it_if_asked() -> None:
    model, wanted, x = drawn("alae")
    perfect = project(model, x, wanted, steps=5, learning_rate=10.0)
    assert bool((perfect.after <= perfect.before + 1e-9).all())
    start = model.sample_codes(2, Seeded(9, "start"))
    law = CodeStatistics.of(model.sample_codes(200, Seeded(0, "law"))["w"])
    free, held = (project(model, x, start, steps=50, statistics=law, prior_weight=stay).codes["w"] for stay in (0.0, 10.0))
    assert float((held - start["w"]).norm()) < 0.5 * float((free - start["w"]).norm())


def test_a_perceptual_distance_takes_part() -> None:
    model, wanted, x = drawn("alae")

    def dark(image: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return 100 * image.flatten(1).mean(1)

    darker = project(model, x, wanted, steps=50, distance=dark)  # from where pixels could not be better
    assert bool((darker.after > darker.before).all())
    assert bool((dark(darker.images, x) < dark(x, x)).all())


def test_a_projection_leaves_the_model_as_it_was() -> None:
    model, start, x = drawn("alae")
    model.requires_grad_(True)
    project(model, x, start, steps=3)
    assert all(p.grad is None for p in model.parameters())


def test_a_law_tells_how_far_codes_lie_out() -> None:
    codes = 3 * torch.randn(5000, 6, generator=torch.Generator().manual_seed(0)) + 7
    law = CodeStatistics.of(codes)
    assert float(law.distance(codes).square().mean()) == pytest.approx(1, abs=0.01)
    assert float(law.distance(codes[:1] + 30)) > 5


def test_what_cannot_be_projected_is_refused() -> None:
    model, codes, x = drawn("alae")
    with pytest.raises(UserError, match="no layers to free"):
        project(model, x, codes, "w+")
    with pytest.raises(UserError, match="needs a model that has noise maps"):
        project(model, x, codes, "noise")
    with pytest.raises(UserError, match="at least one step"):
        project(model, x, codes, steps=0)
    with pytest.raises(UserError, match="rate above 0"):
        project(model, x, codes, learning_rate=float("nan"))
    with pytest.raises(UserError, match="staying costs 0 or more"):
        project(model, x, codes, prior_weight=-1.0)
    with pytest.raises(UserError, match="images of 6x4"):
        project(model, x[:, :, :3], codes)
