from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anamorph.data.order import coins, held_out, indices


@given(st.integers(1, 50), st.integers(0, 300), st.integers(1, 120), st.integers(0, 2**63))
def test_a_position_has_one_example_however_it_is_asked_for(size: int, start: int, count: int, seed: int) -> None:
    whole = indices(size, 0, start + count, seed)
    assert np.array_equal(indices(size, start, count, seed), whole[start:])


@given(st.integers(1, 50), st.integers(0, 5), st.integers(0, 100))
def test_an_epoch_holds_every_example_once(size: int, epoch: int, seed: int) -> None:
    assert sorted(indices(size, epoch * size, size, seed)) == list(range(size))


def test_epochs_and_seeds_differ() -> None:
    first, second, other = indices(100, 0, 100, 0), indices(100, 100, 100, 0), indices(100, 0, 100, 1)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_without_a_seed_examples_come_in_their_own_order() -> None:
    assert indices(4, 2, 6, None).tolist() == [2, 3, 0, 1, 2, 3]


def test_coins_are_fair_and_belong_to_their_position() -> None:
    whole = coins(1000, 0, 3000, 7)
    assert 0.45 < whole.mean() < 0.55
    assert np.array_equal(coins(1000, 950, 100, 7), whole[950:1050])
    assert not np.array_equal(whole[:1000], whole[1000:2000])


@pytest.mark.parametrize("size", [2, 5, 100, 10_000])
def test_a_tenth_is_held_out_at_least_one(size: int) -> None:
    chosen = held_out(size)
    assert 1 <= chosen.sum() < size
    if size > 1000:
        assert abs(chosen.mean() - 0.1) < 0.01
        assert np.array_equal(held_out(size + 500)[: size - 1], chosen[: size - 1])  # more examples move none over


def test_a_single_example_is_not_held_out() -> None:
    assert not held_out(1).any()
