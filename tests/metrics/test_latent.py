"""Use of latent spaces, and smoothness of ways through them, where the answer is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.model import LatentModel, Noise
from anamorph.core.signal import Image
from anamorph.core.space import Codes, Space
from anamorph.metrics.latent import active_units, code_usage, smoothness


def test_usage_is_counted() -> None:
    found = code_usage(torch.tensor([[[0, 0], [1, 1]], [[2, 2], [3, 3]]]), 8)
    assert (found.used, found.num_codes) == (4, 8)
    assert found.perplexity == pytest.approx(4)
    assert found.counts.tolist() == [2, 2, 2, 2, 0, 0, 0, 0]
    skewed = code_usage(torch.tensor([0, 0, 0, 1]), 2)
    assert skewed.perplexity == pytest.approx(math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))))
    with pytest.raises(UserError, match="wanted 0 to 2"):
        code_usage(torch.tensor([3]), 3)
    with pytest.raises(UserError, match="whole numbers"):
        code_usage(torch.rand(3), 3)


def test_units_that_vary_are_active() -> None:
    means = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.05, 0.2, 0.0])
    assert active_units(means).tolist() == [True, False, True, False]
    with pytest.raises(UserError, match="at least 2 images"):
        active_units(means[:1])


class Bent(LatentModel):
    """Images that follow z to a power."""

    signal = Image(1, 1, 1)
    spaces = (Space("z", (1,)),)

    def __init__(self, power: float) -> None:
        super().__init__()
        self.power = power

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        return (codes["z"] ** self.power).view(-1, 1, 1, 1)


def test_ways_are_straight_and_even_or_not() -> None:
    zero, one = {"z": torch.zeros(2, 1)}, {"z": torch.ones(2, 1)}
    even = smoothness(Bent(1), zero, one, lambda x: x.flatten(1))
    assert even.straightness.tolist() == pytest.approx([1, 1])
    assert even.evenness.tolist() == pytest.approx([1, 1])
    late = smoothness(Bent(2), zero, one, lambda x: x.flatten(1), steps=10)
    assert late.straightness.tolist() == pytest.approx([1, 1])
    assert late.evenness.tolist() == pytest.approx([0.1 / 0.19] * 2, rel=1e-5)
    jump = smoothness(Bent(1), zero, one, lambda x: (x.flatten(1) > 0.51).float(), steps=10)
    assert jump.evenness.tolist() == pytest.approx([0.1, 0.1])
    back = smoothness(Bent(2), {"z": -torch.ones(1, 1)}, {"z": torch.full((1, 1), 0.5)}, lambda x: x.flatten(1), steps=30)
    assert back.straightness.tolist() == pytest.approx([0.75 / 1.25], rel=1e-5)


def test_no_way_is_refused() -> None:
    one = {"z": torch.ones(2, 1)}
    with pytest.raises(UserError, match="nothing changes along way 0"):
        smoothness(Bent(1), one, one, lambda x: x.flatten(1))
    with pytest.raises(UserError, match="whole numbers"):
        smoothness(Bent(1), {"z": torch.ones(2, 1).long()}, one, lambda x: x.flatten(1))
    with pytest.raises(UserError, match="at least 2 steps"):
        smoothness(Bent(1), one, one, lambda x: x.flatten(1), steps=1)
