"""From recordings to codes, other voices, samples and small files: the models of sounds as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from anamorph.cli.main import main
from anamorph.cli.mix import Mix
from anamorph.cli.parsing import parse
from anamorph.cli.sample import Sample
from anamorph.coding.compress import reconstruct
from anamorph.core.space import read_codes
from anamorph.data.single_files import read_sound
from anamorph.figures.wav import read_wav, write_wav
from anamorph.runs import load
from commands import fails
from sounds import RATE, recordings

PLAIN = ["--threads", "1", "--compile", "off", "--precision", "float32", "--images", "32", "--batch", "8"]
SOURCE = ["--name-pattern", "{digit}_{speaker}_*", "--window", "256"]
NET = ["layers=2", "dilation-cycle=2", "residual-channels=4", "gate-channels=4", "skip-channels=6", "head-channels=6"]


def sizes(where: str) -> list[str]:
    return [word for size in NET for word in (f"--model.{where}.{size.split('=')[0]}", size.split("=")[1])]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hardly trained runs: codes of recordings, and a prior over them by digit."""
    root = tmp_path_factory.mktemp("runs")
    data = str(recordings(root / "data"))
    sizes_of = {"width": 6, "num-embeddings": 8, "embedding-dim": 4, "condition-channels": 4, "num-speakers": 3}
    own = [word for name, size in sizes_of.items() for word in (f"--model.{name}", str(size))]
    assert main(["train", "audio_vqvae", data, *PLAIN, *SOURCE, *own, *sizes("decoder"), "--out", str(root / "first")]) == 0
    prior = ["train", "wavenet", data, *PLAIN, *sizes("network"), "--codes-of", str(root / "first")]
    assert main([*prior, "--out", str(root / "prior")]) == 0
    return root


def test_an_option_of_several_values_may_be_given_more_than_once() -> None:
    once = parse(Sample, "sample", ["run", "--label", "a=1", "b=2", "c=3", "--n", "3"])
    again = parse(Sample, "sample", ["run", "--label", "a=1", "--n", "3", "--label=b=2", "--label", "c=3"])
    assert once == again
    assert once.label == ("a=1", "b=2", "c=3")
    rows = parse(Mix, "mix", ["run", "--rows", "seed:1", "--columns", "seed:3", "--rows", "seed:2"])
    assert (rows.rows, rows.columns) == (("seed:1", "seed:2"), ("seed:3",))


def test_the_same_codes_in_another_voice(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes = str(tmp_path / "c.safetensors")
    assert main(["encode", str(root / "first"), "data:0", "--out", codes]) == 0
    names = json.loads((root / "first" / "config.json").read_text())["name_pattern"]
    assert names == SOURCE[1]
    for speaker in ("ada", "ben"):
        words = [
            "decode",
            str(root / "first"),
            codes,
            "--label",
            f"speaker={speaker}",
            "--out",
            str(tmp_path / f"{speaker}.png"),
        ]
        assert main(words) == 0
    spoken = [read_wav(tmp_path / f"{speaker}.wav") for speaker in ("ada", "ben")]
    assert spoken[0].shape == (1, 256)
    assert not torch.equal(spoken[0], spoken[1])
    fails(["decode", str(root / "first"), codes, "--label", "speaker=nobody"], "speaker has no class 'nobody'", capsys)
    assert main(["reconstruct", str(root / "first"), "data:0", "data:1", "--out", str(tmp_path / "r.png")]) == 0
    assert main(["sample", str(root / "prior"), "--n", "2", "--label", "speaker=ben", "--out", str(tmp_path / "s.png")]) == 0
    assert len(list((tmp_path / "s-sounds").glob("*.wav"))) == 2


def test_sounds_become_small_files_and_come_back(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, model = str(root / "prior"), load(root / "prior")
    time = torch.arange(256) / RATE
    long, short = tmp_path / "long.wav", tmp_path / "short.wav"
    for path, x in ((long, time), (short, time[:100])):
        write_wav(path, (0.4 * torch.sin(2 * torch.pi * 440 * x))[None], RATE)
    words = ["compress", run, str(long), "--label", "speaker=ben"]
    fails(["compress", run, str(long)], "or --label speaker=NAME", capsys)
    assert main([*words, "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)["files"]
    assert facts["bits_per_sample"] > 0
    assert main(["decompress", run, str(tmp_path / "long.anam"), "--out", str(tmp_path / "back")]) == 0
    wanted = reconstruct(model, read_sound(long, model.signal)[0], {"speaker": torch.tensor([1])})  # type: ignore[arg-type]
    write_wav(tmp_path / "wanted.wav", wanted[0], RATE)
    assert torch.equal(read_wav(tmp_path / "back" / "long.wav"), read_wav(tmp_path / "wanted.wav"))
    words[2] = str(short)
    fails(words, "it would be padded with silence; allow it with --fit", capsys)
    assert main([*words, "--fit"]) == 0
    assert main(["decompress", run, str(tmp_path / "short.anam"), "--out", str(tmp_path / "back")]) == 0
    assert read_wav(tmp_path / "back" / "short.wav").shape == (1, 100)


def test_a_folder_is_read_as_the_run_reads_names(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who speaks is output to the decoder by names of files, as while it was trained."""
    data = str(recordings(tmp_path / "data"))
    assert main(["reconstruct", str(root / "first"), f"{data}:all", "--n", "3", "--out", str(tmp_path / "again.png")]) == 0
    assert "3 sounds" in capsys.readouterr().out
    assert main(["encode", str(root / "first"), f"{data}:all", "--out", str(tmp_path / "c.safetensors")]) == 0
    codes, _, _ = read_codes(tmp_path / "c.safetensors")
    assert set(codes["speaker"].tolist()) == {0, 1, 2}
    (tmp_path / "odd").mkdir()
    (tmp_path / "data" / "0_ada_0.wav").rename(tmp_path / "odd" / "hello.wav")
    capsys.readouterr()
    fails(["encode", str(root / "first"), f"{tmp_path / 'odd'}:all"], "hello", capsys)
