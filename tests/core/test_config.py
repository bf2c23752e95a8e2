from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anamorph.core.config import from_plain, to_plain
from anamorph.core.errors import UserError, nearest


@dataclass(frozen=True)
class Inner:
    side: int = 3


@dataclass(frozen=True)
class Outer:
    rate: float
    kind: Literal["a", "b"] = "a"
    widths: tuple[int, ...] = (1, 2)
    size: tuple[int, int] | None = None
    inner: Inner = Inner()
    flag: bool = False


@given(
    st.builds(
        Outer,
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(["a", "b"]),
        st.lists(st.integers()).map(tuple),
        st.none() | st.tuples(st.integers(), st.integers()),
        st.builds(Inner, st.integers()),
        st.booleans(),
    )
)
def test_settings_return_from_plain_values(settings: Outer) -> None:
    assert from_plain(Outer, to_plain(settings), "here") == settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": 1.0, "knid": "a"}, "here: unknown setting 'knid': did you mean 'kind'"),
        ({"kind": "a"}, "here lacks rate"),
        ({"rate": "fast"}, "here: rate is 'fast', expected float"),
        ({"rate": 1, "kind": "c"}, "expected one of 'a', 'b'"),
        ({"rate": 1, "size": [1, 2, 3]}, "size"),
        ({"rate": 1, "inner": {"side": True}}, "side is True, expected int"),
        ({"rate": 1, "inner": {"sied": 1}}, "did you mean 'side'"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_plain(Outer, values, "here")


def test_unknown_names_are_met_with_the_nearest_or_with_all() -> None:
    assert nearest("alea", ["alae", "vae"]) == "did you mean 'alae' or 'vae'?"
    assert nearest("zzz", ["vae", "alae"]) == "known: alae, vae"
