"""The commands that measure, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anamorph.cli.main import main
from anamorph.core.files import read_json
from anamorph.models.adversarial_autoencoders.alae import ALAEConfig
from anamorph.models.autoencoders.autoencoder import AutoencoderConfig
from commands import fails
from trained import trained


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    trained(root / "alae", "alae", 128, ALAEConfig(width=16, w_dim=5, z_dim=3))
    trained(root / "autoencoder", "autoencoder", 128, AutoencoderConfig(z_dim=5, width=16))
    return root


SMALL = ["--features", "pixels-pca", "--n", "100", "--threads", "1"]


def test_evaluate_prints_a_table_and_writes_a_report(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(runs / "alae"), *SMALL, "--metrics", "samples", "reconstructions"]
    assert main(words) == 0
    output = capsys.readouterr()
    assert "FID [pixels-pca64]" in output.out
    assert "alae at 128 of 128 images (newest checkpoint)" in output.err
    report = runs / "alae" / "evaluation" / "report.html"
    assert "Samples" in report.read_text()
    assert main([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["measures"]["reconstruction_mse"]["n"] == {"held-out images": 100}
    assert facts["measures"]["fid"]["features"] == "pixels-pca64"


def test_compare_writes_four_files(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = [str(runs / "alae"), str(runs / "autoencoder")]
    assert main(["compare", *both, *SMALL, "--metrics", "reconstructions", "--out", str(tmp_path)]) == 0
    assert "| MSE ↓ |" in capsys.readouterr().out
    found = read_json(tmp_path / "comparison.json")
    row = next(row for row in found["rows"] if row["measure"] == "reconstruction_mse")
    assert set(row["values"]) == {"alae", "autoencoder"}
    assert all(value["value"] > 0 for value in row["values"].values())
    page = (tmp_path / "comparison.html").read_text()
    assert "The same images reconstructed" in page
    assert "reconstructed by autoencoder" in page
    assert (tmp_path / "comparison.tex").read_text().startswith(r"\begin{tabular}")
    assert (tmp_path / "comparison.md").read_text().startswith("| | alae | autoencoder | data |")


def test_features_are_trained_listed_and_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features", "train", "digits", "--images", "512", "--called", "mine", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["name"] == "mine"
    assert 0 <= facts["accuracy"]["class"] <= 1
    assert main(["features", "list", "--json"]) == 0
    path = json.loads(capsys.readouterr().out)["known"]["mine"]["path"]
    assert main(["features", "add", "other", path]) == 0
    assert main(["features", "list"]) == 0
    assert "other" in capsys.readouterr().out
    fails(["features", "add", "other", path], "choose another name", capsys)
    fails(["features", "add", "inception-v3-fid", path], "not a file that was published", capsys)
    fails(["features", "add", "lpips-vgg16"], "cannot fetch https://download.pytorch.org", capsys)
    fails(["features", "add", "other"], "is no standard network: give its file", capsys)
    fails(["features", "train"], "needs a SOURCE to train on", capsys)


def test_mistakes_are_reported(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(runs / "alae")
    fails(["evaluate", str(tmp_path)], "is no run", capsys)
    fails(["evaluate", run, "--metrics", "fidd"], "did you mean 'fid'", capsys)
    fails(["evaluate", run, "--features", "inception"], "no feature network 'inception'", capsys)
    fails(["evaluate", run, "--features", "inception-v3-fid"], "is not at hand: fetch it from", capsys)
    fails(["evaluate", run, "nowhere"], "nowhere", capsys)
    fails(["compare", run], "at least two runs", capsys)
    words = ["train", "autoencoder", "digits", "--images", "64", "--out", str(tmp_path / "x")]
    fails([*words, "--best-metric", "fid"], "--best-metric needs --evaluate-every", capsys)
    fails([*words, "--best-metric", "fid-", "--evaluate-every", "9"], "did you mean 'fid'", capsys)
