from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anamorph.core.errors import UserError
from anamorph.edit.interpolate import lerp, lerp_codes, plane, slerp, strip
from anamorph.edit.truncate import truncate


def code(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape or (7,), generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 1000), st.integers(2, 9))
def test_the_ends_of_interpolations_are_exact(seed: int, steps: int) -> None:
    a, b = code(seed, 3, 4), code(seed + 1, 3, 4)
    t = torch.linspace(0, 1, steps)
    for way in (lerp(a, b, t), slerp(a, b, t)):
        assert way.shape == (steps, 3, 4)
        assert torch.equal(way[0], a)
        assert torch.equal(way[-1], b)


def test_a_line_is_even_and_an_arc_keeps_its_length() -> None:
    a, b, t = code(0), code(1), torch.linspace(0, 1, 11)
    steps = lerp(a, b, t).diff(dim=0)
    torch.testing.assert_close(steps, steps[:1].expand_as(steps), atol=1e-6, rtol=0)
    arc = slerp(a / a.norm(), b / b.norm(), t)
    torch.testing.assert_close(arc.norm(dim=1), torch.ones(11))
    angles = (arc[:-1] * arc[1:]).sum(1).clamp(-1, 1).acos()
    torch.testing.assert_close(angles, angles[:1].expand(10), atol=1e-4, rtol=0)


def test_arcs_between_parallel_or_zero_codes_are_lines() -> None:
    a, t = code(0), torch.tensor([0.25])
    for b in (2 * a, -a, torch.zeros(7)):
        torch.testing.assert_close(slerp(a, b, t), lerp(a, b, t))
        assert bool(torch.isfinite(slerp(b, a, t)).all())


def test_a_plane_has_its_corners_in_place() -> None:
    corners = [{"w": code(i)} for i in range(4)]
    points = plane(corners, 3, 5)["w"].unflatten(0, (3, 5))
    for (row, column), corner in zip(((0, 0), (0, 4), (2, 0), (2, 4)), corners, strict=True):
        assert torch.equal(points[row, column], corner["w"])
    torch.testing.assert_close(points[1, 2], sum(c["w"] for c in corners) / 4)
    assert torch.equal(points[0], strip(corners[0], corners[1], 5)["w"])


def test_codes_that_cannot_be_interpolated_are_refused() -> None:
    ids = {"ids": torch.zeros(3, dtype=torch.long)}
    with pytest.raises(UserError, match="whole numbers"):
        lerp_codes(ids, ids, torch.tensor([0.5]))
    with pytest.raises(UserError, match="different spaces"):
        lerp_codes({"w": code(0)}, {"z": code(0)}, torch.tensor([0.5]))
    with pytest.raises(UserError, match="at least 2 steps"):
        strip({"w": code(0)}, {"w": code(1)}, 1)
    with pytest.raises(UserError, match="four corners, got 3"):
        plane([{"w": code(0)}] * 3, 2, 2)


def test_truncation_moves_codes_towards_the_mean() -> None:
    codes, centre = {"w": code(0, 5, 3, 4), "noise": code(1, 5, 2)}, {"w": code(2, 3, 4)}
    assert torch.equal(truncate(codes, centre, 0.0)["w"], centre["w"].expand(5, 3, 4))
    torch.testing.assert_close(truncate(codes, centre, 1.0)["w"], codes["w"])
    half = truncate(codes, centre, 0.5, layers=2)
    torch.testing.assert_close(half["w"][:, :2], ((codes["w"] + centre["w"]) / 2)[:, :2])
    assert torch.equal(half["w"][:, 2:], codes["w"][:, 2:])
    assert torch.equal(half["noise"], codes["noise"])
    with pytest.raises(UserError, match="finite"):
        truncate(codes, centre, math.nan)
