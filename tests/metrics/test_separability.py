"""Linear separability: the official numbers, and codes of which it is known what a plane leaves open."""

from __future__ import annotations

import pytest
import torch

from anamorph.core.errors import UserError
from anamorph.metrics.separability import conditional_entropy_bits, of_two, separability
from reference import committed


def test_golden_entropies() -> None:
    for case in committed("metrics").facts["values"]["conditional_entropy"]:
        assert conditional_entropy_bits(torch.tensor(case["table"])) == pytest.approx(case["value"], abs=1e-6)  # in float32


@pytest.mark.parametrize("space", ["z", "w"])
def test_golden_separability(space: str) -> None:
    case = committed("metrics")
    wanted, logits = case.facts["values"]["ls"], case.tensors["ls.logits"]
    found = separability(case.tensors[f"ls.{space}"], [of_two(logits[:, i]) for i in range(2)], wanted["num_keep"])
    assert found.bits == pytest.approx(wanted["conditional_entropies"][space], abs=1e-6)
    assert found.score == pytest.approx(wanted[f"score_{space}"], rel=1e-6)


def test_planes_tell_what_is_linear_and_nothing_of_what_is_not() -> None:
    codes = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    linear, crossed = of_two(3 * codes[:, 0]), of_two(3 * codes[:, 0] * codes[:, 1])
    assert separability(codes, [linear], 1000).score == pytest.approx(1, abs=0.02)
    assert separability(codes, [crossed], 1000).score == pytest.approx(2, abs=0.15)
    both = separability(codes, [linear, crossed], 1000)
    assert both.score == pytest.approx(2 ** sum(both.bits))


def test_more_than_two_classes_and_one_alone() -> None:
    codes = torch.randn(600, 2, generator=torch.Generator().manual_seed(0))
    corner = torch.stack([codes[:, 0], -codes[:, 0] + codes[:, 1], -codes[:, 0] - codes[:, 1]], 1)
    alone = of_two(torch.full((600,), 2.0))
    found = separability(codes, [(5 * corner).softmax(1), alone])
    assert found.bits[0] < 0.3
    assert (found.bits[1], found.single) == (0, 1)
    with pytest.raises(UserError, match="single class"):
        separability(codes, [alone])


def test_bad_input_is_refused() -> None:
    codes, sure = torch.randn(40, 2), of_two(torch.randn(40))
    with pytest.raises(UserError, match="expected at least 10 images of 40 kept, got 41"):
        separability(codes, [sure], 41)
    with pytest.raises(UserError, match="at least 10 images of 12 kept, got 6"):
        separability(codes[:12], [sure[:12]])
    with pytest.raises(UserError, match="no attributes"):
        separability(codes, [])
    with pytest.raises(UserError, match="not finite"):
        separability(codes * torch.nan, [sure])
    with pytest.raises(UserError, match="expected \\[40, classes\\]"):
        separability(codes, [sure[:30]])
