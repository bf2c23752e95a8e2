from __future__ import annotations

import math

import pytest
import torch

from anamorph.nn import resample
from anamorph.nn.equalized import Linear, pixel_norm
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


def test_ranges_are_each_others_inverse() -> None:
    x = torch.tensor([-1.0, 0.0, 1.0])
    assert to_range(x, "unit").tolist() == [0.0, 0.5, 1.0]
    assert torch.equal(from_range(to_range(x, "unit"), "unit"), x)
    assert to_range(x, "signed") is x


@pytest.mark.parametrize("turned", [False, True])
def test_kernels_are_widened_alike_compiled_and_not(turned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(3, 2, 3, 3)
    plain = resample._spread(weight, turned)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(resample._spread(weight, turned), plain, atol=1e-6, rtol=0)
