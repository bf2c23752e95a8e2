from __future__ import annotations

import pytest
import torch

from anamorph.core.errors import UserError
from anamorph.edit.reject import RejectionSampling


def test_the_best_of_every_group_are_accepted_in_their_order() -> None:
    probabilities = torch.tensor([0.1, 0.9, 0.5, 0.3, 0.8, 0.2, 0.7, 0.6])
    assert RejectionSampling(2, 4).best(probabilities, 4).tolist() == [1, 2, 4, 6]
    assert RejectionSampling(2, 4).best(probabilities, 3).tolist() == [1, 2, 4]
    assert RejectionSampling(1, 1).best(probabilities, 8).tolist() == list(range(8))


@pytest.mark.parametrize(("text", "n", "groups"), [("1/4", 5, 5), ("3/4", 5, 2), ("4/4", 8, 2)])
def test_enough_groups_are_sampled(text: str, n: int, groups: int) -> None:
    assert RejectionSampling.parse(text).groups(n) == groups


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "-1/4", "1/0"])
def test_impossible_ratios_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="rejection sampling"):
        RejectionSampling.parse(text)
