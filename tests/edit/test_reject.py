from __future__ import annotations

import pytest
import torch

from anamorph.core.errors import UserError
from anamorph.edit.reject import Rejection


def test_the_best_of_every_group_are_kept_in_their_order() -> None:
    chances = torch.tensor([0.1, 0.9, 0.5, 0.3, 0.8, 0.2, 0.7, 0.6])
    assert Rejection(2, 4).best(chances, 4).tolist() == [1, 2, 4, 6]
    assert Rejection(2, 4).best(chances, 3).tolist() == [1, 2, 4]
    assert Rejection(1, 1).best(chances, 8).tolist() == list(range(8))


@pytest.mark.parametrize(("text", "n", "groups"), [("1/4", 5, 5), ("3/4", 5, 2), ("4/4", 8, 2)])
def test_so_many_groups_are_drawn(text: str, n: int, groups: int) -> None:
    assert Rejection.parse(text).groups(n) == groups


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "-1/4", "1/0"])
def test_what_cannot_be_kept_is_told(text: str) -> None:
    with pytest.raises(UserError, match="--keep-best"):
        Rejection.parse(text)
