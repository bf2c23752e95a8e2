"""The density of a flow against that of zuko, which is given the same layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.distributions import AffineTransform, Independent, Normal

from small import batch, make_run


@torch.no_grad()
def test_the_density_of_a_real_nvp_is_that_of_zuko() -> None:
    zuko = pytest.importorskip("zuko", reason="pip install zuko to compare the densities of flows")
    model: Any = make_run("real_nvp").model
    for parameter in model.parameters():
        parameter += 0.1 * torch.randn(parameter.shape)
    transforms = []
    for layer in model.layers:
        scale = layer.log_scale.exp()
        transforms.append(AffineTransform(layer.bias * scale, scale))
        mask = layer.mask.bool()

        def coupling(constant: torch.Tensor, layer: Any = layer, mask: torch.Tensor = mask) -> Any:
            values = torch.zeros(*constant.shape[:-1], len(mask))
            values[..., mask] = constant
            log_scale, shift = layer._scale_and_shift(values)
            return AffineTransform(shift[..., ~mask], log_scale[..., ~mask].exp(), event_dim=1)

        transforms.append(zuko.transforms.CouplingTransform(coupling, mask))
    values = model.signal.num_values
    base = Independent(Normal(torch.zeros(values), torch.ones(values)), 1)
    flow = zuko.distributions.NormalizingFlow(zuko.transforms.ComposedTransform(*transforms), base)
    x = batch(case="real_nvp").signals
    torch.testing.assert_close(model.log_prob(x).nats, flow.log_prob(x.flatten(1)), rtol=1e-4, atol=1e-3)
