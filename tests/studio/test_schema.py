"""The studio against its own description: what its OpenAPI document allows, and much that it does not, never breaks it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis to test the studio against its OpenAPI")
EXAMPLES = 8


@pytest.mark.slow
def test_requests_made_from_the_description_are_answered_and_never_break_it(address: str) -> None:
    """With what is asked for, or an error in words, under a status that is described."""
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import status_code_conformance

    operations = [found.ok() for found in schemathesis.openapi.from_url(f"{address}api/openapi.json").get_all_operations()]
    asked: dict[str, int] = {}
    for operation in operations:
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @settings(
                max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                answer = case.call(timeout=60)
                case.validate_response(answer, checks=[not_a_server_error, status_code_conformance])
                if answer.status_code >= 400:
                    assert answer.json()["error"]
                asked[case.operation.label] = asked.get(case.operation.label, 0) + 1

            with suppress(Unsatisfiable):  # nothing wrong can be said where nothing is said
                ask()
    assert len(asked) == len(operations)
    assert min(asked.values()) > 1
