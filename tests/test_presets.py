"""Presets fit their models, grow to the full size within their images, and are what the originals used."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from anamorph.catalog import MODELS, build
from anamorph.cli.main import main
from anamorph.core.errors import UserError
from anamorph.core.model import Grows
from anamorph.core.signal import Image
from anamorph.presets import PRESETS, Preset, preset, presets_of
from anamorph.runs import load, settings_of
from anamorph.training.folder import RunFolder


def named(p: Preset) -> str:
    return f"{p.model} {p.size}"


@pytest.mark.parametrize("p", PRESETS, ids=named)
def test_a_preset_fits_its_model_and_reaches_its_full_size(p: Preset) -> None:
    with torch.device("meta"):
        model, recipe = build(p.model, Image(3, p.size, p.size), p.config, 0, "meta")
    assert isinstance(model, Grows)
    first, last = p.growing.at(0), p.growing.at(p.images)
    assert p.size >> first.level in (4, 8)
    assert model.at(first).signal.shape == (3, p.size >> first.level, p.size >> first.level)
    assert (last.level, last.alpha) == (0, 1.0)
    reached = next(n for n in range(0, p.images, 10_000) if p.growing.at(n).level == 0)
    slow = {"stylealae 256", "stylealae 1024"}  # as released
    assert reached < p.images * (0.95 if named(p) in slow else 0.6)  # most of the time goes to the full size
    assert all(batch % (recipe.group_size or 1) == 0 for batch in p.growing.batches)


def test_every_growing_model_has_the_promised_presets() -> None:
    for model in ("stylealae", "stylegan"):
        assert [p.size for p in presets_of(model)] == [32, 64, 128, 256, 1024]
    assert {p.model for p in PRESETS} <= set(MODELS)


@pytest.mark.parametrize(("size", "config"), [(128, "celeba"), (256, "celeba-hq256")])
def test_larger_presets_grow_as_the_released_alae_did(size: int, config: str) -> None:
    path = Path(os.environ.get("ANAMORPH_GOLDEN", "")) / "alae/lod_schedule.json"
    if not path.is_file():
        pytest.skip("the reference schedules are not at hand: set ANAMORPH_GOLDEN to their folder")
    released, mine = json.loads(path.read_text())[f"{config}/world1"], preset("stylealae", size)
    for row in released["rows"]:
        stage = mine.growing.at(row["epoch"] * released["dataset_size"])
        assert size >> stage.level == row["resolution"]
        assert stage.batch == row["batch"]
        assert stage.lr_scale * mine.config.learning_rate == pytest.approx(row["lr_list_value"])
        assert stage.alpha == pytest.approx(row["blend"][0][1], abs=1e-9)
    assert mine.images == released["epochs"] * released["dataset_size"]


def test_the_preset_of_1024_grows_as_the_released_alae_did() -> None:
    stages = [preset("stylealae", 1024).growing.at(level * 960_000) for level in range(9)]
    assert [1024 >> s.level for s in stages] == [4, 8, 16, 32, 64, 128, 256, 512, 1024]
    assert [s.batch for s in stages] == [512, 256, 128, 64, 32, 16, 16, 16, 16]
    assert [0.0015 * s.lr_scale for s in stages] == pytest.approx([0.0015] * 6 + [0.002, 0.003, 0.003])


def test_the_official_stylegan_reaches_1024_after_8400000_images() -> None:
    growing = preset("stylegan", 1024).growing
    assert growing.at(0).level == 7  # 8x8
    assert (growing.at(8_399_999).level, growing.at(8_400_000).alpha) == (0, 1.0)
    assert growing.at(8_399_999).alpha < 1
    assert [growing.at(n).lr_scale for n in (3_700_000, 4_900_000, 6_100_000, 7_300_000, 10**7)] == [1.0, 1.5, 2.0, 3.0, 3.0]


def test_what_does_not_exist_is_named_with_what_does() -> None:
    with pytest.raises(UserError, match="no preset 48: there are 32, 64, 128, 256, 1024"):
        preset("stylegan", 48)
    with pytest.raises(UserError, match="vae has no presets.*stylealae, stylegan"):
        preset("vae", 64)


SHORT = ["--growing.initial-images", "16", "--growing.stable-images", "8", "--growing.batches", "8", "8", "4", "4"]
TINY = ["--model.w-dim", "8", "--model.channel-base", "64", "--model.channel-max", "8", "--compile", "off"]


def test_training_from_a_preset_grows_and_can_be_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "stylealae", "shapes", "--preset", "32", "--images", "44", "--out", str(tmp_path / "run")]
    assert main([*words, *SHORT, *TINY]) == 0
    settings = settings_of(RunFolder(tmp_path / "run"))
    assert settings.signal == Image(3, 32, 32)
    assert settings.config.channel_base == 64
    assert settings.config.r1 == preset("stylealae", 32).config.r1
    assert settings.growing is not None
    assert (settings.growing.initial_images, settings.growing.batches) == (16, (8, 8, 4, 4))
    assert main(["sample", str(tmp_path / "run"), "--n", "2"]) == 0


def test_half_grown_it_is_used_at_the_size_that_it_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    assert main(["train", "stylealae", "shapes", "--preset", "32", "--images", "20", "--out", run, *SHORT, *TINY]) == 0
    assert load(run).signal == Image(3, 8, 8)
    capsys.readouterr()
    assert main(["info", run]) == 0
    assert "grown to     8x8" in capsys.readouterr().out
    for words in (
        ["sample"],
        ["reconstruct"],
        ["reconstruct", "data:0", "seed:1"],
        ["interpolate", "data:0", "seed:1"],
        ["encode", "data:0"],
    ):
        assert main([words[0], run, *words[1:]]) == 0
    assert main(["resume", run, "--images", "44"]) == 0
    assert load(run).signal == Image(3, 32, 32)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "32", "--batch", "64"], "a preset has a batch for each level"),
        (["--preset", "32", "--size", "64"], "shorter side"),
        (["--preset", "33"], "no preset 33"),
        (["--preset", "32", "--images", "0"], "images must be at least 1"),
        ([], "--images"),
        (["--preset", "32", "--growing.batches", *"444444", "--growing.lr-scales", *"111111"], "4 levels to grow through"),
    ],
)
def test_presets_that_do_not_fit_are_refused(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "stylealae", "shapes:train", "--out", str(tmp_path / "run"), *words, *TINY]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_preset_larger_than_the_images_is_refused_unless_enlarging_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "stylealae", "digits", "--preset", "32", "--images", "8", "--out", str(tmp_path / "run"), *SHORT, *TINY]
    assert main(words) == 2
    assert "upscale" in capsys.readouterr().err
    assert main([*words, "--upscale"]) == 0
