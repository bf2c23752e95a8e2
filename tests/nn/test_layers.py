from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

from anamorph.core.errors import UserError
from anamorph.core.optimizer import Adam
from anamorph.nn import resample
from anamorph.nn.equalized import Conv, Linear, equalized_adam, lr_multipliers_of, lreq_adam, pixel_norm
from anamorph.nn.mlp import MLP, leaky
from anamorph.nn.running_stats import RunningMean
from anamorph.nn.value_ranges import from_range, to_range
from reference import committed


def test_a_linear_layer_starts_with_hes_constant_and_no_bias() -> None:
    layer = Linear(400, 500, gain=1.5, lr_multiplier=0.1)
    torch.testing.assert_close(layer.weight.std(), torch.tensor(1.5 / math.sqrt(400)), rtol=0.01, atol=0)
    assert not layer.bias.any()
    x = torch.randn(2, 400)
    torch.testing.assert_close(layer(x), x @ layer.weight.T + layer.bias)


def test_pixel_norm_is_the_references() -> None:
    case = committed("e_lreqadam_and_layers")
    case.close(pixel_norm(case.tensors["layer/x2"][:, :, 0, 0]), "layer/pixel_norm", atol=1e-6)
    z = torch.randn(5, 16) * 7
    torch.testing.assert_close(pixel_norm(z).square().mean(1), torch.ones(5))


def test_an_mlp_is_its_layers() -> None:
    net = MLP([3, 4, 5, 2], leaky(0.1), leaky(0.5))
    x = torch.randn(6, 3)
    a, b, c = net.layers
    hidden = torch.nn.functional.leaky_relu(b(torch.nn.functional.leaky_relu(a(x), 0.1)), 0.1)
    torch.testing.assert_close(net.hidden(x), hidden)
    torch.testing.assert_close(net(x), torch.nn.functional.leaky_relu(c(hidden), 0.5))


def test_a_running_mean_moves_once_per_commit() -> None:
    mean = RunningMean(2, beta=0.9)
    mean.gather(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    mean.gather(torch.tensor([[5.0, 6.0]]))
    assert not mean.mean.any()
    mean.commit()
    torch.testing.assert_close(mean.mean, torch.tensor([0.3, 0.4]))
    mean.gather(torch.tensor([[1.0, 1.0]]))
    mean.commit()
    torch.testing.assert_close(mean.mean, torch.tensor([0.37, 0.46]))
    assert list(mean.state_dict()) == ["mean"]


def test_conversions_of_ranges_are_inverse() -> None:
    x = torch.tensor([-1.0, 0.0, 1.0])
    assert to_range(x, "unit").tolist() == [0.0, 0.5, 1.0]
    assert torch.equal(from_range(to_range(x, "unit"), "unit"), x)
    assert to_range(x, "signed") is x


@pytest.mark.parametrize("flip", [False, True])
def test_fused_kernels_agree_compiled_and_not(flip: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(3, 2, 3, 3)
    plain = resample._with_box(weight, flip)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(resample._with_box(weight, flip), plain, atol=1e-6, rtol=0)


def reparametrised(layer: Any) -> dict[str, Any]:
    """The layer with spectral normalisation as a parametrisation, and as a hook."""
    return {
        "parametrisation": torch.nn.utils.parametrizations.spectral_norm(copy.deepcopy(layer)),
        "hook": torch.nn.utils.spectral_norm(copy.deepcopy(layer)),
    }


@pytest.mark.parametrize("kind", ["parametrisation", "hook"])
@pytest.mark.parametrize("plain", [Linear(5, 7, lr_multiplier=0.1), Conv(2, 3)], ids=["linear", "conv"])
def test_an_optimizer_steps_the_parameters_of_spectrally_normalised_layers(plain: Linear | Conv, kind: str) -> None:
    layer = reparametrised(plain)[kind].train()
    vectors = {name: buffer.clone() for name, buffer in layer.named_buffers()}
    adam = lreq_adam(0.1, layer)
    own = {id(p): name for name, p in layer.named_parameters()}
    assert sorted(own.values()) == sorted(own[id(p)] for p in adam.parameters)
    assert len(adam.parameters) == 2
    by_name = {own[id(p)].split(".")[-1]: factor for p, factor in zip(adam.parameters, adam.lr_multipliers, strict=True)}
    expected = lr_multipliers_of(plain)
    assert by_name["original" if kind == "parametrisation" else "weight_orig"] == expected[plain.weight]
    assert by_name["bias"] == expected[plain.bias]  # type: ignore[index]
    for name, buffer in layer.named_buffers():  # reading the factors takes no step of the power iteration
        assert torch.equal(buffer, vectors[name])
    before = [p.detach().clone() for p in adam.parameters]
    x = torch.randn(4, *((5,) if isinstance(plain, Linear) else (2, 6, 6)))
    gradients = torch.autograd.grad(layer(x).square().mean(), adam.parameters)
    adam.step(list(gradients), 1.0, "skip")
    assert all(not torch.equal(a, b) for a, b in zip(before, adam.parameters, strict=True))
    assert torch.isfinite(layer(x)).all()


def test_a_weight_of_several_parameters_has_no_equalised_learning_rate() -> None:
    layer = torch.nn.utils.parametrizations.weight_norm(Linear(5, 7))
    with pytest.raises(UserError, match=r"the weight of an equalised .*Linear is no parameter.*original0.*spectral_norm"):
        lreq_adam(0.1, layer)
    with pytest.raises(UserError, match="not computed from a single one"):
        equalized_adam(0.1, torch.nn.Sequential(torch.nn.Linear(2, 5), layer))


def test_eps_and_rates_of_the_equalised_adam_are_those_of_the_unscaled_weights() -> None:
    """A step is the same as that of the weight without He's constant, scaled by it."""
    layer = Linear(5, 7)
    constant, start = lr_multipliers_of(layer)[layer.weight], layer.weight.detach().clone()
    gradient = 1e-8 * torch.randn(7, 5)
    equalized_adam(0.1, layer).step([gradient, torch.zeros(7)], 1.0, "skip")
    unscaled = torch.nn.Parameter(start / constant)
    Adam([unscaled], 0.1, (0.0, 0.99), 1e-8, eps_mode="raw").step([gradient * constant], 1.0, "skip")
    torch.testing.assert_close(layer.weight.detach(), unscaled.detach() * constant, atol=1e-6, rtol=1e-5)
