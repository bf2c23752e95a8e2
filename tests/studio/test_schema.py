"""The studio and its OpenAPI description: neither valid nor invalid requests break it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studios import PATIENCE

schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis to test the studio against its OpenAPI")
PROFILE = settings(max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container within a JSON value, with each of its keys or indices."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield value, key
        yield from places(inner)


@st.composite
def of_runs(draw: st.DrawFn, cases: st.SearchStrategy[Any], runs: list[str]) -> Any:
    """Generate cases of existing runs; in half of them, all points are seeds."""
    case = draw(cases)
    if "run" in (case.path_parameters or {}):
        case.path_parameters["run"] = draw(st.sampled_from(runs))
    if draw(st.booleans()):
        case.body = copy.deepcopy(case.body)
        for container, key in [*places(case.body)]:
            if isinstance(container[key], dict) and "kind" in container[key]:
                container[key] = {"kind": "seed", "seed": draw(st.integers(0, 9))}
    return case


@st.composite
def invalid_cases(draw: st.DrawFn, cases: st.SearchStrategy[Any]) -> Any:
    """Generate valid cases with one arbitrary value."""
    case = draw(cases)
    case.body = copy.deepcopy(case.body)
    words = (case.query, case.path_parameters)
    candidates = [place for part in (case.body, *words) for place in places(part)]
    if candidates:
        container, key = draw(st.sampled_from(candidates))
        is_word = any(container is part for part in words)
        container[key] = draw(st.text(min_size=1, max_size=20) if is_word else ANYTHING)
    return case


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["as described", "invalid"])
def test_requests_made_from_the_description_are_answered_and_never_break_it(address: str, kind: str) -> None:
    """The response has a described status, and an error has a message."""
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import status_code_conformance

    operations = [found.ok() for found in schemathesis.openapi.from_url(f"{address}api/openapi.json").get_all_operations()]
    runs = [found["id"] for found in httpx.get(f"{address}api/runs").json()]
    sent: dict[str, int] = {}
    for operation in operations:
        cases = of_runs(operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE), runs)

        @settings(PROFILE)
        @given(case=cases if kind == "as described" else invalid_cases(cases))
        def ask(case: Any) -> None:
            answer = case.call(timeout=PATIENCE)
            case.validate_response(answer, checks=[not_a_server_error, status_code_conformance])
            if answer.status_code >= 400:
                assert answer.json()["error"]
            sent[case.operation.label] = sent.get(case.operation.label, 0) + 1

        ask()
    assert len(sent) == len(operations)
