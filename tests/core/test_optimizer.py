from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from anamorph.core.optimizer import Adam, MissingGradient
from anamorph.nn.equalized import Linear, lreq_adam
from reference import committed


def parameters(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def gradients(like: list[nn.Parameter], step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(step + 1)
    return [torch.randn(p.shape, generator=generator) for p in like]


def traced(adam: Adam, given: list[Tensor | None], idle: MissingGradient = "skip") -> None:
    factors = adam.advance([gradient is not None for gradient in given], 1.0, idle)
    adam.traced_step(given, factors, idle)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.99), (0.5, 0.9)])
def test_it_is_torchs_adam(betas: tuple[float, float]) -> None:
    mine, theirs = parameters((3, 4), (5,)), parameters((3, 4), (5,))
    adam, oracle = Adam(mine, 0.01, betas), torch.optim.Adam(theirs, 0.01, betas)
    for step in range(20):
        adam.step(gradients(mine, step), 1.0, "skip")
        for p, g in zip(theirs, gradients(mine, step), strict=True):
            p.grad = g
        oracle.step()
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_it_is_the_lreq_adam_of_the_reference() -> None:
    """Five steps, a zero gradient in the third, and none for `plain` in the fourth."""
    case = committed("e_lreqadam_and_layers")
    names = ["linear.weight", "linear.bias", "conv.weight", "conv.bias", "convT.weight", "plain"]
    coefficients = [case.facts["lr_equalization_coef"][name] or 1.0 for name in names]
    for step_by in ("fused", "traced"):
        mine = [nn.Parameter(case.tensors[f"start/{name}"].clone()) for name in names]
        adam = Adam(mine, 0.002, (0.0, 0.99), lr_multipliers=coefficients, eps_mode="raw")
        for step in range(5):
            given = [case.tensors.get(f"step{step}/grad/{name}") for name in names]
            given = [None if g is None else g.clone() for g in given]
            adam.step(given, 1.0, "skip") if step_by == "fused" else traced(adam, given)
            for name, parameter, second in zip(names, mine, adam.exp_avg_sq, strict=True):
                case.close(parameter, f"step{step}/after/{name}", atol=2e-7)
                if f"step{step}/exp_avg_sq/{name}" in case.tensors:
                    case.close(second, f"step{step}/exp_avg_sq/{name}", atol=1e-7)
        assert adam.steps.tolist() == [case.facts["steps"][4][name] for name in names]


def test_coefficients_are_those_of_the_reference_layers() -> None:
    facts = committed("e_lreqadam_and_layers").facts
    layer = Linear(5, 7, gain=facts["layer_std"]["linear"]["gain"], lr_multiplier=0.1)
    adam = lreq_adam(0.002, layer)
    wanted = [facts["lr_equalization_coef"][name] for name in ("linear.weight", "linear.bias")]
    assert adam.lr_multipliers == pytest.approx(wanted, rel=1e-7)


def test_coefficients_survive_copies() -> None:
    layer = Linear(5, 7, lr_multiplier=0.1)
    assert lreq_adam(1.0, copy.deepcopy(layer)).lr_multipliers == lreq_adam(1.0, layer).lr_multipliers


@pytest.mark.parametrize("idle", ["skip", "zero"])
@pytest.mark.parametrize("epsilon", ["raw", "corrected"])
@pytest.mark.parametrize(("betas", "clip"), [((0.9, 0.99), None), ((0.0, 0.99), None), ((0.9, 0.99), 0.9)])
def test_fused_and_traced_steps_agree(
    idle: MissingGradient, epsilon: str, betas: tuple[float, float], clip: float | None
) -> None:
    shapes = ((4, 3), (6,), (2, 2))
    pair = []
    for stepper in ("fused", "traced"):
        mine = parameters(*shapes)
        adam = Adam(mine, 0.01, betas, 1e-3, [1.0, 0.5, 1.0], epsilon, clip)  # type: ignore[arg-type]
        for step in range(6):
            given: list[Tensor | None] = list(gradients(mine, step))
            if step in (0, 3):  # the second is idle, before and after it has been stepped
                given[1] = None
            adam.step(given, 1.0, idle) if stepper == "fused" else traced(adam, given, idle)
        pair.append((mine, adam))
    for a, b in zip(pair[0][0], pair[1][0], strict=True):
        torch.testing.assert_close(a, b, atol=2e-6, rtol=0)
    assert pair[0][1].steps.tolist() == pair[1][1].steps.tolist() == [6, 5 if idle == "zero" else 4, 6]


def test_an_idle_parameter_decays_its_moments_only_once_it_has_been_stepped() -> None:
    (p,) = mine = parameters((3,))
    adam, start = Adam(mine, 0.1, (0.0, 0.5)), p.detach().clone()
    adam.step([None], 1.0, "zero")
    assert torch.equal(p, start)
    assert adam.steps.tolist() == [0]
    adam.step([torch.ones(3)], 1.0, "zero")
    moved = p.detach().clone()
    adam.step([None], 1.0, "zero")
    assert torch.equal(p, moved)
    torch.testing.assert_close(adam.exp_avg_sq[0], torch.full((3,), 0.25))


def test_the_scale_multiplies_the_step() -> None:
    pair = []
    for scale in (1.0, 0.25):
        (p,) = mine = parameters((3,))
        before = p.detach().clone()
        Adam(mine, 0.1).step([torch.tensor([1.0, -2.0, 3.0])], scale, "skip")
        pair.append(p.detach() - before)
    torch.testing.assert_close(pair[1], pair[0] / 4, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("stepper", ["fused", "traced"])
def test_an_unusual_gradient_counts_as_a_clipped_one_and_usual_ones_as_they_are(stepper: str) -> None:
    found = []
    for clip, size in ((None, 1.0), (3.0, 1.0), (3.0, 1e4), (3.0, 1e6)):
        (p,) = mine = parameters((50, 40))
        adam = Adam(mine, 0.01, clip=clip)
        for step in range(30):
            given: list[Tensor | None] = [g * (size if step == 20 else 1.0) for g in gradients(mine, step)]
            adam.step(given, 1.0, "skip") if stepper == "fused" else traced(adam, given)
        found.append((p.detach(), adam.exp_avg_sq[0]))
    (plain, _), (usual, v), (large, u), (larger, w) = found
    assert torch.equal(plain, usual)
    torch.testing.assert_close(large, larger, atol=1e-5, rtol=1e-5)  # how unusual it is does not matter any more
    torch.testing.assert_close(u, w, atol=1e-5, rtol=1e-5)
    assert 1 < float(w.sum() / v.sum()) < 1.5
    assert float((larger - usual).abs().max()) < 3 * 0.01 * 10  # the clip, the rate, and 1 / (1 - beta1)


@pytest.mark.parametrize("stepper", ["fused", "traced"])
def test_what_is_not_finite_is_not_hidden_by_a_clip(stepper: str) -> None:
    for bad in (float("nan"), float("inf")):
        (p,) = mine = parameters((3,))
        adam = Adam(mine, 0.01, clip=3.0)
        for given in ([torch.ones(3)], [torch.tensor([1.0, bad, 1.0])]):
            adam.step(given, 1.0, "skip") if stepper == "fused" else traced(adam, [*given])
        assert not torch.isfinite(p).all()


def test_reset_forgets() -> None:
    mine = parameters((3,))
    adam = Adam(mine, 0.1)
    adam.step([torch.ones(3)], 1.0, "skip")
    adam.reset()
    assert all(not tensor.any() for tensor in adam.state().values())


def test_a_parameter_given_twice_is_refused() -> None:
    (p,) = parameters((3,))
    with pytest.raises(ValueError, match="twice"):
        Adam([p, p], 0.1)


def test_a_gradient_of_another_layout_moves_the_same_numbers() -> None:
    generator = torch.Generator().manual_seed(0)
    start, gradient = (torch.randn(3, 4, 5, 2, generator=generator) for _ in range(2))
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        parameter = torch.nn.Parameter(start.clone(memory_format=layout))
        Adam([parameter], 0.1).step([gradient], 1.0, "skip")
        found.append(parameter.detach())
    assert found[1].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)
