"""Disentanglement: codes that list the factors, codes that mix them, and codes that know nothing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.random import Seeded
from anamorph.metrics.disentanglement import (
    dci,
    factor_vae_score,
    mutual_information_gap,
    separated_attribute_predictability,
)

EVERY = torch.tensor(list(itertools.product(range(3), range(4), range(5), range(10))))
"""All pictures of four factors, the last of which only makes them many."""
FACTORS = EVERY[:, :3]

SCORES: dict[str, Callable[[Tensor], float]] = {
    "mig": lambda codes: mutual_information_gap(codes, FACTORS),
    "disentanglement": lambda codes: dci(codes, FACTORS, codes, FACTORS).disentanglement,
    "completeness": lambda codes: dci(codes, FACTORS, codes, FACTORS).completeness,
    "sap": lambda codes: separated_attribute_predictability(codes, FACTORS, codes, FACTORS),
    "factor-vae": lambda codes: factor_vae_score(codes, FACTORS, Seeded(0), votes=150),
}


def listed() -> Tensor:
    """The factors, in another order, on other scales, and a number that says nothing."""
    return torch.stack([FACTORS[:, 2] * 3.0 - 1, -FACTORS[:, 0] * 0.5, EVERY[:, 3] * 1.0, FACTORS[:, 1] + 0.0], 1)


@pytest.mark.parametrize("name", SCORES)
def test_a_list_of_the_factors_is_perfect(name: str) -> None:
    assert SCORES[name](listed()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", SCORES)
def test_mixed_and_random_codes_are_worse(name: str) -> None:
    turned = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(2)))[0]
    mixed = (listed() - listed().mean(0)) / listed().std(0) @ turned
    noise = torch.randn(600, 4, generator=torch.Generator().manual_seed(3))
    assert SCORES[name](mixed) < 0.85
    assert SCORES[name](noise) < 0.6


def test_mutual_information_by_hand() -> None:
    """Two numbers: one tells a fair coin through a channel that errs once in five times, the other nothing."""
    factor = torch.tensor([0, 1]).repeat(200)
    heard = torch.where(torch.arange(400) // 2 % 5 == 0, 1 - factor, factor)
    information = math.log(2) + 0.2 * math.log(0.2) + 0.8 * math.log(0.8)
    codes = torch.stack([heard, torch.arange(400) // 2 % 2], 1).double()
    assert mutual_information_gap(codes, factor[:, None]) == pytest.approx(information / math.log(2), rel=1e-6)


def test_a_factor_told_twice_has_no_lead() -> None:
    codes = torch.cat([listed(), listed()[:, :1]], 1)
    assert mutual_information_gap(codes, FACTORS) == pytest.approx(2 / 3)
    assert separated_attribute_predictability(codes, FACTORS, codes, FACTORS) == pytest.approx(2 / 3)


def test_informativeness_is_of_held_out_images() -> None:
    codes = listed()
    assert dci(codes, FACTORS, codes, FACTORS).informativeness == 1
    assert dci(codes, FACTORS, codes.flip(0), FACTORS).informativeness < 0.5


def test_bad_input_is_refused() -> None:
    codes = listed()
    with pytest.raises(UserError, match="99 images are too few, at least 100"):
        mutual_information_gap(codes[:99], FACTORS[:99])
    with pytest.raises(UserError, match="single number"):
        mutual_information_gap(codes[:, :1], FACTORS)
    with pytest.raises(UserError, match="wanted whole numbers"):
        mutual_information_gap(codes, FACTORS.float())
    with pytest.raises(UserError, match="name labels"):
        dci(codes, FACTORS[:, :0], codes, FACTORS)
    with pytest.raises(UserError, match="not finite"):
        factor_vae_score(codes * torch.nan, FACTORS, Seeded(0))
    with pytest.raises(UserError, match="factors \\[1\\] have a single value"):
        separated_attribute_predictability(codes, FACTORS * torch.tensor([1, 0, 1]), codes, FACTORS)
    with pytest.raises(UserError, match="no number"):
        factor_vae_score(codes, FACTORS, Seeded(0), alive=torch.zeros(4, dtype=torch.bool))
    with pytest.raises(UserError, match="only 1 images share a value"):
        factor_vae_score(codes, torch.arange(600)[:, None], Seeded(0))
