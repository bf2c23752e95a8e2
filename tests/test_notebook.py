"""The notebook of the documentation runs, from its first cell to its last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "latent_space.ipynb"


@pytest.mark.slow
def test_its_cells_run_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = ["".join(c["source"]) for c in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if c["cell_type"] == "code"]
    scope: dict[str, Any] = {"__name__": "__main__"}
    for number, text in enumerate(cells):
        exec(compile(text.replace("IMAGES = 300_000", "IMAGES = 2_000"), f"cell {number}", "exec"), scope)
    assert (tmp_path / "runs" / "notebook" / "metrics.jsonl").is_file()
    assert scope["paper"].size == (640, 640)
