"""Arbitrary requests: the response is a picture or an error with a message, never a failure."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studios import PATIENCE

NUMBERS = st.one_of(
    st.integers(-3, 20),
    st.sampled_from([2**53, 2**63, -(2**70), 1e308, -0.0, 0.5, 1.5]),
    st.none(),
    st.booleans(),
    st.text(max_size=4),
)
LAYERS = st.one_of(st.none(), st.lists(st.integers(-1, 70), max_size=4), NUMBERS)
WORDS = st.sampled_from(["pca", "sefa", "labels:shape", "labels:", "", "../x", "0" * 32, "codes", "w", "noise.0", "\u0000"])
CODE = st.fixed_dictionaries({"y": NUMBERS, "x": NUMBERS, "code": NUMBERS}, optional={"map": NUMBERS})
LEAVES = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.just("seed"), "seed": NUMBERS}, optional={"temperature": NUMBERS, "top_p": NUMBERS, "labels": LAYERS}
    ),
    st.fixed_dictionaries({"kind": st.just("data"), "index": NUMBERS}),
    st.fixed_dictionaries({"kind": st.sampled_from(["file", "codes"]), "digest": st.one_of(WORDS, NUMBERS)}),
    NUMBERS,
)


def _compound(points: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    step = st.fixed_dictionaries({"directions": WORDS, "which": NUMBERS, "steps": NUMBERS}, optional={"layers": LAYERS})
    return st.one_of(
        st.fixed_dictionaries({"kind": st.just("mean"), "of": st.lists(points, max_size=3)}),
        st.fixed_dictionaries(
            {"kind": st.just("relabel"), "of": points, "labels": st.lists(st.tuples(WORDS, NUMBERS), max_size=2)}
        ),
        st.fixed_dictionaries({"kind": st.just("truncate"), "of": points, "psi": NUMBERS}, optional={"layers": LAYERS}),
        st.fixed_dictionaries({"kind": st.just("move"), "of": points, "along": st.lists(step, max_size=3)}),
        st.fixed_dictionaries(
            {"kind": st.just("mix"), "of": points, "source": points}, optional={"layers": LAYERS, "share": NUMBERS}
        ),
        st.fixed_dictionaries(
            {"kind": st.just("between"), "ends": st.lists(points, max_size=4), "x": NUMBERS}, optional={"y": NUMBERS}
        ),
        st.fixed_dictionaries({"kind": st.just("paint"), "of": points, "space": WORDS, "cells": st.lists(CODE, max_size=3)}),
        st.fixed_dictionaries(
            {
                "kind": st.just("redraw"),
                "of": points,
                "places": st.lists(st.tuples(NUMBERS, NUMBERS), max_size=3),
                "seed": NUMBERS,
            }
        ),
    )


POINTS = st.recursive(LEAVES, _compound, max_leaves=6)
LOOKS = st.fixed_dictionaries({}, optional={"noise": st.sampled_from(["fixed", "off", "fresh", "loud"]), "noise_seed": NUMBERS})
BODIES = st.one_of(
    st.tuples(
        st.just("decode"),
        st.fixed_dictionaries({"points": st.lists(POINTS, max_size=3)}, optional={"columns": NUMBERS, "look": LOOKS}),
    ),
    st.tuples(
        st.just("draw"), st.fixed_dictionaries({}, optional={"n": NUMBERS, "seed": NUMBERS, "psi": NUMBERS, "look": LOOKS})
    ),
    st.tuples(
        st.just("mix"), st.fixed_dictionaries({"rows": st.lists(POINTS, max_size=2), "columns": st.lists(POINTS, max_size=2)})
    ),
    st.tuples(
        st.just("interpolate"), st.fixed_dictionaries({"ends": st.lists(POINTS, max_size=4), "steps": st.integers(-1, 5)})
    ),
    st.tuples(st.just("grids"), st.fixed_dictionaries({"point": POINTS})),
    st.tuples(st.just("palette"), st.fixed_dictionaries({"point": POINTS, "space": WORDS})),
    st.tuples(st.just("original"), st.fixed_dictionaries({"point": POINTS})),
    st.tuples(
        st.just("directions"),
        st.fixed_dictionaries({"name": WORDS, "towards": st.lists(POINTS, max_size=2), "away": st.lists(POINTS, max_size=2)}),
    ),
)
KINDS = st.sampled_from(["png", "webp", "codes", "python", "exe"])


def _send(address: str, examples: int) -> None:
    statuses: dict[int, int] = {}

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(["styled", "plain", "coded", "drawn", "none"]), BODIES, KINDS)
    def ask(run: str, request: tuple[str, dict[str, Any]], kind: str) -> None:
        route, body = request
        if route in ("decode", "draw", "mix", "interpolate"):
            body = {**body, "as": kind}
        answer = httpx.post(f"{address}api/runs/{run}/{route}", json=body, timeout=PATIENCE)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        assert answer.status_code in (200, 422), (route, body, answer.text)
        if answer.status_code == 422:
            assert answer.json()["error"]

    ask()
    assert statuses[200] > 0
    assert statuses[422] > 0


def test_any_request_is_answered_or_refused_with_a_message(address: str) -> None:
    _send(address, 120)


@pytest.mark.slow
def test_many_such_requests(address: str) -> None:
    _send(address, 3000)
