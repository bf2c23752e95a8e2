"""The examples of the API's page run, from the first to the last."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "api.md"


def test_the_examples_of_the_api_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    text = "\n".join(line for line in PAGE.read_text("utf-8").splitlines() if not line.startswith("```"))
    examples = doctest.DocTestParser().get_doctest(text, {}, "api.md", str(PAGE), 0)
    assert len(examples.examples) >= 30
    failures, _ = doctest.DocTestRunner().run(examples)
    assert failures == 0


def test_the_page_names_everything_that_the_package_offers() -> None:
    import anamorph

    text = PAGE.read_text("utf-8")
    assert not [name for name in anamorph.__all__ if name not in text and name != "__version__"]
