"""Numbers under distributions: exactly back, at no more than their ideal length and a byte."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anamorph.coding.range_coder import TOTAL, Frequencies, Ids, Reader, Writer, frequencies
from anamorph.core.errors import UserError


def some(seed: int, n: int, k: int, spread: float) -> tuple[Ids, Frequencies]:
    """Numbers drawn from distributions that are even or nearly certain; every third set without regard to the distribution."""
    generator = np.random.default_rng(seed)
    distributions = frequencies(torch.from_numpy(spread * generator.normal(size=(n, k))))
    shares = distributions.astype(np.float64) / TOTAL
    likely = [generator.choice(k, p=row) for row in shares]
    return np.array(generator.integers(0, k, n) if seed % 3 == 0 else likely, np.int32), distributions


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 40), st.sampled_from([0.1, 1.0, 5.0, 30.0]))
def test_numbers_come_back_and_cost_what_they_must(seed: int, n: int, k: int, spread: float) -> None:
    ids, distributions = some(seed, n, k, spread)
    writer = Writer()
    for i in range(n):
        writer.write(ids[i : i + 1], distributions[i : i + 1])
    data = writer.finish()
    reader = Reader(data)
    assert [int(reader.read(distributions[i : i + 1])[0]) for i in range(n)] == ids.tolist()
    assert 8 * len(data) <= -np.log2(distributions[np.arange(n), ids] / TOTAL).sum() + 8.01


def test_several_at_once_are_the_same_as_one_by_one() -> None:
    ids, distributions = some(1, 40, 9, 1.0)
    writers = Writer(), Writer()
    for i in range(40):
        writers[0].write(ids[i : i + 1], distributions[i : i + 1])
    for i in range(0, 40, 8):
        writers[1].write(ids[i : i + 8], distributions[i : i + 8])
    data, same = (writer.finish() for writer in writers)
    assert data == same
    reader = Reader(data)
    assert np.array_equal(np.concatenate([reader.read(distributions[i : i + 5]) for i in range(0, 40, 5)]), ids)


def test_a_long_stream_costs_what_it_must() -> None:
    ids, distributions = some(1, 5000, 64, 2.0)
    writer = Writer()
    writer.write(ids, distributions)
    ideal = -np.log2(distributions[np.arange(5000), ids] / TOTAL).sum()
    assert ideal <= 8 * len(writer.finish()) <= 1.0001 * ideal + 8


@given(st.integers(0, 10**6), st.integers(2, 300), st.sampled_from([0.0, 1.0, 100.0, 1e30]))
def test_frequencies_are_whole_at_least_one_and_add_up(seed: int, k: int, spread: float) -> None:
    logits = spread * torch.randn(5, k, generator=torch.Generator().manual_seed(seed))
    found = frequencies(logits).astype(np.float64)
    assert np.array_equal(found, found.round())
    assert found.min() >= 1
    assert (found.sum(1) == TOTAL).all()
    ideal = logits.double().softmax(1).numpy() * TOTAL
    assert np.abs(found - ideal).max() <= k + 1


def test_what_rounding_leaves_goes_to_the_first_of_the_largest() -> None:
    found = frequencies(torch.zeros(1, 3))[0]
    assert found.tolist() == [TOTAL // 3 + 1, TOTAL // 3, TOTAL // 3]


def test_an_empty_stream_is_no_bytes() -> None:
    assert Writer().finish() == b""


def test_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UserError, match="not finite"):
        frequencies(torch.tensor([[0.0, torch.nan]]))


def test_bytes_of_nothing_are_read_as_something_or_refused() -> None:
    """Never an error of another kind: who reads checks what comes out."""
    refused = 0
    for seed in range(300):
        _, distributions = some(seed, 30, 5, 30.0)
        reader = Reader(np.random.default_rng(seed).bytes(8))
        try:
            ids = reader.read(distributions)
        except UserError:
            refused += 1
            continue
        assert ids.min() >= 0
        assert ids.max() < 5
    assert refused < 300
