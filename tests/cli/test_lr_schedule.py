"""Learning-rate schedules as options: the rate of each step, exact resumption, longer totals."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from anamorph.cli.main import main
from anamorph.core.files import read_tensors
from anamorph.core.optimizer import Adam
from anamorph.core.stage import LearningRateSchedule
from anamorph.runs import new_settings, open_training, settings_of
from anamorph.training.autotune import ComputeRequest
from anamorph.training.folder import RunFolder
from commands import fails

BATCH, TOTAL = 16, 160
TRAIN = ["train", "autoencoder", "digits", "--batch", str(BATCH), "--model.width", "8", "--model.z-dim", "3", "--seed", "1"]
EAGER = ["--threads", "1", "--compile", "off", "--precision", "float32"]
COSINE = ["--lr-schedule", "cosine", "--warmup-images", "32"]


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The learning rate of every step of an optimizer from now on, as a share of the model's."""
    rates: list[float] = []
    step = Adam.step

    def recorded(self: Adam, gradients: object, lr_scale: float, missing_gradient: object) -> None:
        rates.append(lr_scale)
        step(self, gradients, lr_scale, missing_gradient)  # type: ignore[arg-type]

    monkeypatch.setattr(Adam, "step", recorded)
    return rates


def start(out: Path, *options: str, images: int = TOTAL) -> RunFolder:
    assert main([*TRAIN, *EAGER, *options, "--images", str(images), "--out", str(out)]) == 0
    return RunFolder(out)


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    return read_tensors(folder.checkpoint_files()[0])[0]


def shape(name: str, images: int) -> float:
    """The share of the learning rate after 32 images of warm-up, falling to zero at the total."""
    share = max(images - 32, 0) / (TOTAL - 32)
    left = {"constant": 1.0, "linear": 1 - share, "cosine": (1 + math.cos(math.pi * share)) / 2}[name]
    return min(images / 32, 1.0) * left


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_each_step_has_the_learning_rate_of_its_images(name: str, tmp_path: Path, rates: list[float]) -> None:
    start(tmp_path / "run", "--lr-schedule", name, "--warmup-images", "32")
    assert rates == pytest.approx([shape(name, images) for images in range(0, TOTAL, BATCH)])


def test_the_learning_rate_is_constant_by_default(tmp_path: Path, rates: list[float]) -> None:
    assert settings_of(start(tmp_path / "run")).lr_schedule is None
    assert rates == [1.0] * (TOTAL // BATCH)


def test_a_stopped_run_resumes_bitwise(tmp_path: Path, rates: list[float]) -> None:
    whole = start(tmp_path / "whole", *COSINE)
    expected, stopped = list(rates), RunFolder(tmp_path / "stopped")
    with stopped.locked():
        settings_of(whole).write(stopped)
        assert [status.images for status in open_training(stopped).run_to_end(lambda: len(rates) >= 14)][-1] == 4 * BATCH
    assert main(["resume", str(stopped.path)]) == 0
    assert rates == 2 * expected
    assert_equal(weights(whole), weights(stopped))


def test_a_longer_total_leaves_the_schedule_as_it_was(
    tmp_path: Path, rates: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = start(tmp_path / "run", *COSINE)
    before = settings_of(folder)
    assert before.lr_schedule == LearningRateSchedule(32, "cosine", decay_from=32, decay_images=TOTAL - 32)
    assert main(["resume", str(folder.path), "--images", str(TOTAL + 2 * BATCH)]) == 0
    assert settings_of(folder).lr_schedule == before.lr_schedule
    assert rates[-2:] == [0.0, 0.0]
    assert "the learning rate stays at zero" in capsys.readouterr().err


def test_it_is_set_from_python_and_kept_with_the_run(tmp_path: Path) -> None:
    schedule, compute = LearningRateSchedule(16, "linear", final=0.1), ComputeRequest("cpu", "float32", 1, False)
    folder = RunFolder(tmp_path / "run")
    settings = new_settings("autoencoder", "digits", 64, batch=BATCH, lr_schedule=schedule, compute=compute)
    assert settings.lr_schedule == LearningRateSchedule(16, "linear", decay_images=64, final=0.1)
    with folder.locked():
        settings.write(folder)
        assert settings_of(folder) == settings
        assert open_training(folder).run.schedule.at(32).lr_scale == pytest.approx(0.55)


def test_a_growing_model_follows_it_on_top_of_its_own_rates() -> None:
    from dataclasses import replace

    from anamorph.presets import preset

    growth = preset("stylegan", 128).growing
    compute = ComputeRequest("cpu", "float32", 1, False)
    settings = new_settings("autoencoder", "digits", 64, batch=BATCH, compute=compute)
    settings = replace(settings, growing=growth, lr_schedule=LearningRateSchedule(decay="linear", decay_images=2 * 10**7))
    assert settings.schedule.at(10**7).lr_scale == pytest.approx(growth.at(10**7).lr_scale / 2)


def test_a_warm_up_that_leaves_nothing_to_decay_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TRAIN, *EAGER, "--images", "32", "--out", str(tmp_path / "run"), *COSINE]
    fails(words, "choose a shorter warm-up, or --lr-schedule constant", capsys)
    fails([*words, "--lr-schedule", "constant", "--warmup-images", "-1"], "warmup-images must be at least 0", capsys)
    assert not (tmp_path / "run").exists()


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name
