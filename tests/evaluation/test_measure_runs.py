"""Runs evaluated and compared by their folders, from Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anamorph.core.errors import UserError
from anamorph.core.files import read_json
from anamorph.evaluation.measure_runs import compare_runs, evaluate_run
from anamorph.models.autoencoders.autoencoder import AutoencoderConfig
from anamorph.models.autoencoders.vae import VAEConfig
from trained import trained

CONFIGS = {"autoencoder": AutoencoderConfig(z_dim=5, width=16), "vae": VAEConfig(z_dim=5, widths=(16,))}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two small runs on digits of 8x8."""
    root = tmp_path_factory.mktemp("runs")
    for name, config in CONFIGS.items():
        trained(root / name, name, 128, config)
    return [root / name for name in CONFIGS]


def test_a_run_is_evaluated_by_its_path(runs: list[Path]) -> None:
    notes: list[str] = []
    result = evaluate_run(runs[0], metrics=["errors", "fid"], features="pixels", n=40, note=notes.append)
    assert result.measures["reconstruction_mse"].n == {"held-out images": 40}
    assert result.not_measured == {"fid": "the model does not sample"}
    assert repr(result).startswith("RunEvaluation('autoencoder': ")
    assert len(repr(result)) < 80
    assert "not measured: fid (the model does not sample)" in str(result)
    assert "<td>MSE ↓</td>" in result._repr_html_()
    plain = result.to_dict()
    assert plain["measures"]["reconstruction_mse"]["value"] == result.measures["reconstruction_mse"].value
    assert Path(plain["path"]) == result.report == runs[0] / "evaluation" / "report.html"
    assert any("feature networks: pixels" in note for note in notes)
    with pytest.raises(UserError, match="no measure 'errrors': did you mean 'errors'"):
        evaluate_run(runs[0], metrics=["errrors"])


def test_runs_are_compared_by_their_paths(runs: list[Path], tmp_path: Path) -> None:
    result = compare_runs(runs, metrics=["errors"], features="pixels", n=40)
    assert repr(result).startswith("RunComparison(autoencoder, vae: ")
    assert set(result.best.values()) <= {"autoencoder", "vae"}
    assert "| MSE ↓ |" in str(result)
    assert "<th>autoencoder</th><th>vae</th>" in result._repr_html_()
    paths = result.write(tmp_path)
    assert [path.suffix for path in paths] == [".html", ".md", ".tex", ".json"]
    assert read_json(tmp_path / "comparison.json")["rows"] == json.loads(json.dumps(result.to_dict()))["rows"]
    with pytest.raises(UserError, match="at least two runs, got 1"):
        compare_runs(runs[:1])
