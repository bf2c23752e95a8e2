from __future__ import annotations

import pytest
import torch

from anamorph.core.errors import UserError
from anamorph.core.random import Recorder, Replay, Seeded, Sliced


def test_the_same_place_gives_the_same_numbers_and_another_place_others() -> None:
    def first(*place: int | str) -> torch.Tensor:
        return Seeded(*place).normal(1000)  # type: ignore[arg-type]

    assert torch.equal(first(1, 5, "critic"), first(1, 5, "critic"))
    others = [first(2, 5, "critic"), first(1, 6, "critic"), first(1, 5, "generator")]
    for other in others:
        assert abs(float(torch.corrcoef(torch.stack([first(1, 5, "critic"), other]))[0, 1])) < 0.15


def test_kinds_of_draws_have_their_laws() -> None:
    random = Seeded(0, "laws")
    normal, uniform, integers = random.normal(20_000), random.uniform(20_000), random.integers(3, 7, [20_000])
    assert abs(float(normal.mean())) < 0.03
    assert abs(float(normal.std()) - 1) < 0.03
    assert 0 <= float(uniform.min()) < 0.01 < 0.99 < float(uniform.max()) < 1
    assert integers.unique().tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize("stride", [2, 3])
def test_slices_are_the_strided_parts_of_the_whole(stride: int) -> None:
    whole = Seeded(3, "x").normal(12, 5)
    for offset in range(stride):
        part = Sliced(Seeded(3, "x"), offset, stride).normal(12 // stride, 5)
        assert torch.equal(part, whole[offset::stride])


def test_a_shared_draw_is_the_same_in_every_slice() -> None:
    draws = [Sliced(Seeded(3, "x"), offset, 4).uniform(2, shared=True) for offset in range(4)]
    assert all(torch.equal(draw, draws[0]) for draw in draws)


def test_replay_gives_what_was_recorded_and_refuses_anything_else() -> None:
    recorder = Recorder(Seeded(0, "tape"))
    values = [recorder.normal(3, 2), recorder.integers(0, 9, (4,))]
    assert [request[0] for request in recorder.requests] == ["normal", "integers"]
    replay = Replay(values)
    assert torch.equal(replay.normal(3, 2), values[0])
    with pytest.raises(UserError, match=r"\[4\]"):
        replay.integers(0, 9, (5,))
    assert torch.equal(replay.integers(0, 9, (4,)), values[1])
    with pytest.raises(UserError, match="the replay has 2 tensors"):
        replay.normal(1)
