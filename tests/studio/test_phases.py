"""Phases of runs have roles, which come from the recipe: so runs that were written before there were roles have them, too."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

from anamorph.core.recipe import PhaseRole
from anamorph.studio.phases import phases_of
from anamorph.training.folder import RunFolder

OLD_RUNS = Path(__file__).parents[1] / "old_runs" / "format_1"
ADVERSARIAL = {"critic": "critic", "generator": "generator"}
PAGE = Path(__file__).parents[2] / "src" / "anamorph" / "studio" / "page"


def roles_of(phases: list[dict[str, Any]]) -> dict[str, str]:
    return {phase["name"]: phase["role"] for phase in phases}


def test_the_api_gives_each_phase_its_name_role_and_terms(client: httpx.Client) -> None:
    styled = client.get("api/runs/styled/metrics").json()
    assert roles_of(styled["phases"]) == ADVERSARIAL | {"reciprocity": "inversion"}
    assert client.get("api/runs/styled").json()["phases"] == styled["phases"]
    for phase in styled["phases"]:
        assert phase["terms"]
        assert all(term.split("/")[0] == phase["name"] and term in styled["lines"][-1] for term in phase["terms"])
    roles = {run: set(roles_of(client.get(f"api/runs/{run}/metrics").json()["phases"]).values()) for run in ("plain", "drawn")}
    assert roles == {"plain": {"reconstruction"}, "drawn": {"prior"}}
    assert client.get("api/runs/styled/metrics?after=16").json()["phases"] == styled["phases"]  # also without a new line


@pytest.mark.parametrize("name", sorted(path.stem for path in OLD_RUNS.glob("*.zip")))
def test_phases_of_an_old_run_have_roles(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(OLD_RUNS / f"{name}.zip") as archive:
        kept = [file for file in archive.namelist() if file in ("config.json", "metrics.jsonl")]
        archive.extractall(tmp_path, kept)
    folder = RunFolder(tmp_path)
    lines = folder.metrics()
    phases = phases_of(folder, lines)
    assert phases
    assert set(roles_of(phases).values()) <= set(get_args(PhaseRole))
    named = {term for phase in phases for term in phase["terms"]}
    logged = {term for line in lines for term in line if "/" in term and not term.startswith("check/")}
    assert named == logged
    if "alae" in name:
        assert roles_of(phases)["reciprocity"] == "inversion"


def test_changed_settings_have_their_own_phases(tmp_path: Path) -> None:
    for name in ("vae", "gan"):
        with zipfile.ZipFile(OLD_RUNS / f"{name}.zip") as archive:
            config = json.loads(archive.read("config.json"))
        (tmp_path / "config.json").write_text(json.dumps(config))
        roles = roles_of(phases_of(RunFolder(tmp_path), []))
        assert roles == ADVERSARIAL if name == "gan" else set(roles.values()) == {"reconstruction"}


def test_the_page_knows_no_names_of_phases() -> None:
    text = "".join(path.read_text("utf-8") for path in PAGE.rglob("*.js"))
    assert not [name for name in ("reciprocity", "elbo", "iwae") if name in text]
