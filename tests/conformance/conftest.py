"""While the conformance suite runs, its test-only models stand in the catalog, as if they had been added to it."""

from __future__ import annotations

import pytest

from anamorph.catalog import MODELS
from small import TEST_ONLY


@pytest.fixture(autouse=True)
def test_only_models(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, entry in TEST_ONLY.items():
        monkeypatch.setitem(MODELS, name, entry)
