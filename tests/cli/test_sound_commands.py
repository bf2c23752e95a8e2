"""The commands with sounds: from a folder of recordings to a run, samples, reconstructions, codes, and other speakers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from anamorph.cli.main import main
from anamorph.core.files import read_json
from anamorph.core.signal import Audio
from anamorph.core.space import read_codes, write_codes
from anamorph.figures.wav import read_wav
from anamorph.run_data import open_data
from anamorph.runs import load, new_settings, settings_of
from anamorph.training.autotune import ComputeRequest
from anamorph.training.folder import RunFolder
from commands import fails, size
from sounds import RATE, recordings, speaking, tone, write

SMALL = ["--threads", "1", "--compile", "off", "--precision", "float32", "--images", "64", "--batch", "8"]
HERE = ComputeRequest("cpu", "float32", 1, False)
NAMES = ["--name-pattern", "{digit}_{speaker}_*"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Runs on recordings: `speaking`, which is output who speaks, and two of the models that take any signal."""
    root = tmp_path_factory.mktemp("runs")
    data = str(recordings(root / "data"))
    with speaking():
        train = ["train", "speaking", data, *SMALL, *NAMES, "--label", "speaker", "--window", "0.25s"]
        assert main([*train, "--out", str(root / "speaking")]) == 0
        for name in ("autoencoder", "gan"):
            width = ["--model.width", "16", "--model.z-dim", "4"]
            assert main(["train", name, data, *SMALL, "--window", "800", *width, "--out", str(root / name)]) == 0
        yield root


def heard(folder: Path) -> torch.Tensor:
    return torch.stack([read_wav(path) for path in sorted(folder.glob("*.wav"))])


def test_a_run_on_sounds_is_written_and_taken_up_as_it_was_found(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = read_json(runs / "speaking" / "config.json")
    assert config["signal"] == {"channels": 1, "samples": 1000, "sample_rate": RATE}
    assert (config["window"], config["sample_rate"], config["hop"], config["name_pattern"]) == (1000, RATE, None, NAMES[1])
    settings = settings_of(RunFolder(runs / "speaking"))
    assert settings.signal == Audio(1, 1000, RATE)
    assert open_data(settings).fingerprint == settings.fingerprint
    again = new_settings(
        "speaking",
        settings.source,
        8,
        read_options=replace(settings.read_options, hop="0.025s"),
        labels=("speaker",),
        compute=HERE,
    )
    assert (again.hop, again.window) == (100, 1000)
    assert open_data(again).fingerprint == again.fingerprint != settings.fingerprint
    assert main(["resume", str(runs / "speaking"), "--images", "96"]) == 0
    capsys.readouterr()
    assert main(["info", str(runs / "speaking")]) == 0
    assert "96 of 96 sounds" in capsys.readouterr().out


def test_pictures_of_a_training_are_spectrograms_with_sounds(runs: Path) -> None:
    pictures = runs / "speaking" / "pictures"
    assert size(pictures / "timeline.png")[0] > 1000
    assert len(list((pictures / "samples-000000000064-sounds").glob("*.wav"))) == 16
    found = heard(pictures / "reconstructions-000000000064-sounds")
    assert found.shape == (8, 1, 1000)
    held = open_data(settings_of(RunFolder(runs / "speaking")), "test").shuffled().take(0, 4).signals
    assert torch.equal(found[:4], held)
    size(runs / "gan" / "pictures" / "timeline.png")


def test_samples_are_sounds_the_same_for_the_same_seed(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sample", str(runs / "speaking"), "--n", "3"]
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main([*words, "--seed", seed, "--out", str(tmp_path / f"{out}.png")]) == 0
    assert f"{tmp_path / 'c.png'}, {tmp_path / 'c-sounds'}: 3 samples, seed 2" in capsys.readouterr().out
    a, b, c = (heard(tmp_path / f"{out}-sounds") for out in "abc")
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    size(tmp_path / "a.png")
    assert main(["sample", str(runs / "gan"), "--n", "1", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["sounds"] == str(runs / "gan" / "sample.wav")
    assert read_wav(runs / "gan" / "sample.wav").shape == (1, 800)
    assert main([*words, "--label", "speaker=ben"]) == 0
    fails([*words, "--label", "speaker=zoe"], "speaker has no class 'zoe': known: ada, ben, cleo", capsys)


def test_reconstructions_of_held_out_sounds_of_files_and_of_samples(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "r.png")]
    assert main(["reconstruct", str(runs / "autoencoder"), *out, "--n", "2"]) == 0
    assert "sounds, mean squared error" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "r-sounds").glob("*.wav")} >= {"sound-00.wav", "reconstruction-00.wav"}
    write(tmp_path / "mine.flac", tone(0.1, rate=8000), 8000)
    words = ["reconstruct", str(runs / "speaking"), str(tmp_path / "mine.flac"), "data:1", "seed:3"]
    fails([*words, *out], "this model decodes 'speaker', which", capsys)
    assert main([*words, "--label", "speaker=cleo", *out]) == 0
    output = capsys.readouterr()
    assert "mine.flac was padded with silence, resampled from 8,000 to 4,000 Hz" in output.err
    assert "data:1: squared error" in output.out
    assert main(["reconstruct", str(runs / "speaking"), f"{runs / 'data'}:all", *out]) == 0  # names are read as the run's are
    fails(["reconstruct", str(runs / "autoencoder"), "digits", *out], "and these are images", capsys)


def test_the_same_codes_are_decoded_with_another_speaker(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, codes = str(runs / "speaking"), str(tmp_path / "codes.safetensors")
    assert main(["encode", run, "data:0", "data:1", "--out", codes]) == 0
    assert "codes of 2 sounds: z [4] real; speaker [] 0..2" in capsys.readouterr().out
    stored = read_codes(Path(codes))[0]
    heard_as = {}
    for name, label in (("own", []), ("ben", ["--label", "speaker=ben"]), ("number", ["--label", "speaker=1"])):
        assert main(["decode", run, codes, *label, "--out", str(tmp_path / f"{name}.png")]) == 0
        heard_as[name] = heard(tmp_path / f"{name}-sounds")
    model = load(run)
    with torch.no_grad():
        own = model.decode(stored)
        ben = model.decode({"z": stored["z"], "speaker": torch.tensor([1, 1])})
    torch.testing.assert_close(heard_as["own"], own.clamp(-1, 1), atol=1e-4, rtol=0)
    torch.testing.assert_close(heard_as["ben"], ben.clamp(-1, 1), atol=1e-4, rtol=0)
    assert torch.equal(heard_as["ben"], heard_as["number"])
    assert not torch.equal(heard_as["ben"], heard_as["own"])
    fails(["decode", run, codes, "--label", "speaker=zoe"], "speaker has no class 'zoe': known: ada, ben, cleo", capsys)
    fails(["decode", run, codes, "--label", "speaker=3"], "speaker has no class '3'", capsys)
    fails(["decode", run, codes, "--label", "z=1"], "the model does not decode a label 'z': known: speaker", capsys)
    without = tmp_path / "z.safetensors"
    write_codes(without, {"z": stored["z"]}, model.spaces[:1])
    fails(["decode", run, str(without)], "codes lack the space speaker", capsys)
    assert main(["decode", run, str(without), "--label", "speaker=ada"]) == 0


def test_interpolation_goes_through_sounds_and_videos_are_refused(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["interpolate", str(runs / "autoencoder"), "data:0", "data:1", "--steps", "4", "--out", str(tmp_path / "i.png")]
    assert main(words) == 0
    assert heard(tmp_path / "i-sounds").shape == (4, 1, 800)
    fails([*words, "--video", str(tmp_path / "x.webp")], "a video is for images, got sounds", capsys)


def test_models_of_images_are_not_trained_on_sounds(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "x")]
    fails(["train", "vae", str(runs / "data"), *SMALL, *out], "vae is for images, got sounds of", capsys)
    fails(["train", "pixelcnn", str(runs / "data"), *SMALL, *out], "pixelcnn is for images, got sounds", capsys)
    fails(["train", "speaking", "digits", *SMALL, *out], "speaking is for sounds, got images of 8x8", capsys)
    fails(["train", "gan", str(runs / "data"), *SMALL, "--size", "8", *out], "a size is for images", capsys)
    assert not (tmp_path / "x").exists() or not RunFolder(tmp_path / "x").exists


def test_sources_are_described_with_what_was_done(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sources", str(runs / "data"), *NAMES, "--window", "0.5s"]) == 0
    output = capsys.readouterr().out
    assert "2,000 samples at 4,000 Hz (0.5 s) with 1 channel; " in output
    assert "labels: digit (4: 0, 1, 2, 3); speaker (3: ada, ben, cleo)" in output
    assert "24 sounds were shorter than a window, and padded with silence" in output
    assert main(["sources"]) == 0
    assert "spoken digits of six speakers" in capsys.readouterr().out
