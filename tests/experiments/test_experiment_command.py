"""`anamorph experiment`: each name runs its experiment from a checkout; elsewhere the error names the remedy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from anamorph.cli import experiment
from anamorph.cli.main import main
from anamorph.training.autotune import ComputeRequest
from commands import fails
from experiments import cat_directions, cats, compression, family, likelihoods, mnist_probes, speech, tokens
from experiments.catalog import EXPERIMENTS, Overrides, run_experiment

FUNCTIONS = {
    "cats": (cats, "factor_study"),
    "alae-ablation": (cats, "factor_study"),
    "cats-directions": (cat_directions, "direction_study"),
    "family-comparison": (family, "family_comparison"),
    "tokens-mnist": (tokens, "token_study"),
    "tokens-fashion-mnist": (tokens, "token_study"),
    "tokens-eurosat": (tokens, "token_study"),
    "speech": (speech, "speech_study"),
    "vae-mnist": (likelihoods, "vae_mnist"),
    "collapse": (likelihoods, "collapse"),
    "compression": (compression, "compression_study"),
    "compression-eurosat": (compression, "compression_study"),
    "mnist-probes": (mnist_probes, "mnist_probes"),
}


def test_every_experiment_of_the_catalog_is_here() -> None:
    assert list(EXPERIMENTS) == list(FUNCTIONS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_name_runs_its_experiment_with_the_overrides(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []

    def record(*arguments: Any, **more: Any) -> bool:
        calls.append(repr((arguments, more)))
        return True

    module, function = FUNCTIONS[name]
    monkeypatch.setattr(module, function, record)
    overrides = Overrides(images=777, minutes=333.0, n=555, family="cats")
    assert run_experiment(name, tmp_path, ComputeRequest("cpu"), print, overrides, lambda: False)
    (call,) = calls
    assert str(tmp_path) in call
    expected = ("333.0", "555") if name == "family-comparison" else ("777",)
    assert all(text in call for text in expected)
    if name == "family-comparison":
        assert "fashion-mnist" not in call


def test_the_command_needs_a_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(["experiment", "cat"], "no experiment 'cat'", capsys)
    monkeypatch.setattr(experiment, "CHECKOUT", tmp_path)
    fails(["experiment", "list"], "clone the repository, run `pip install -e .` in it", capsys)


def test_results_name_experiments_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    text = (experiment.CHECKOUT / "docs" / "results.md").read_text(encoding="utf-8")
    names = set(re.findall(r"^anamorph experiment (\S+)", text, re.MULTILINE))
    assert names == set(EXPERIMENTS)
    assert main(["experiment", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(EXPERIMENTS)
