"""The commands, as a user types them."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from anamorph.cli.main import COMMANDS, main
from anamorph.core.files import read_json
from anamorph.core.space import read_codes
from anamorph.training.folder import RunFolder
from anamorph.training.status_line import duration
from commands import fails, size

TINY = ["--model.width", "16", "--model.w-dim", "5", "--model.z-dim", "3", "--threads", "1", "--compile", "off"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run of each model on digits."""
    root = tmp_path_factory.mktemp("runs")
    small = ["--threads", "1", "--compile", "off", "--precision", "float32", "--images", "256"]
    for name, width in (("alae", ["--model.width", "16"]), ("gan", ["--model.width", "16"]), ("vae", ["--model.widths", "16"])):
        assert main(["train", name, "digits", *small, *width, "--out", str(root / name)]) == 0
    assert main(["train", "autoencoder", "digits", *small, "--model.width", "16", "--out", str(root / "autoencoder")]) == 0
    return root


def test_help_lists_every_command_without_loading_torch(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)
    code = (
        "import sys; from anamorph.cli.main import main; main(['--help']); print('torch' in sys.modules, 'tyro' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False False")


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "train"])
def test_every_command_has_help_without_torch(command: str) -> None:
    code = (
        "import sys; from anamorph.cli.main import main\n"
        f"try: main(['{command}', '--help'])\n"
        "except SystemExit as end: print('ended', end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("ended 0 False")
    assert "usage: anamorph" in done.stdout


def test_train_help_shows_the_models_own_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "alae", "--help"])
    text = capsys.readouterr().out
    assert "--model.eta-dim" in text
    assert "Gamma of the R1 penalty" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "did you mean 'train'"),
        (["train", "alea", "digits", "--images", "9"], "no model 'alea': did you mean 'alae'"),
        (["train", "alae", "digit", "--images", "9"], "did you mean 'digits'"),
        (["train", "alae", "digits", "--images", "0"], "must be at least 1"),
        (["train", "alae", "digits", "--images", "9", "--size", "big"], "--size is a side or HEIGHTxWIDTH"),
        (["train", "alae", "digits", "--images", "9", "--size", "64"], "smaller than the 64x64 asked for"),
        (["train", "alae", "digits", "--images", "9", "--label", "clas"], "did you mean 'class'"),
        (["train", "alae", "digits", "--images", "9", "--device", "cuda:9"], "use the device cpu"),
        (
            ["train", "alae", "digits", "--images", "9", "--batch", "9", "--gradient-accumulation", "2"],
            "cannot be divided into 2 pieces",
        ),
        (
            [
                "train",
                "stylegan",
                "digits",
                "--images",
                "9",
                "--batch",
                "6",
                *["--threads", "1", "--precision", "float32", "--compile", "off"],
            ],
            "a multiple of 4 images at a time",
        ),
        (["resume", "nowhere"], "nowhere is no run"),
        (["sample", "nowhere"], "nowhere is no run"),
        (["models", "alea"], "did you mean 'alae'"),
        (["sources", "nothing-of-that-name"], "no such file or folder"),
        (["experiment", "mnist-prob"], "did you mean 'mnist-probes'"),
    ],
)
def test_mistakes_are_named_with_a_remedy(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fails(words, message, capsys)


def test_settings_that_make_no_sense_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "alae", "digits", "--images", "9", "--model.w-dim", "0"])
    assert end.value.code == 2
    assert "must be at least 1" in " ".join(capsys.readouterr().err.split())


def test_mistyped_options_are_met_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "alae", "digits", "--images", "9", "--model.zdim", "4"])
    assert end.value.code == 2
    assert "--model.z-dim" in capsys.readouterr().err


def test_training_again_in_the_same_folder_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(["train", "vae", "digits", "--images", "9", "--out", str(runs / "alae")], "already holds a run of alae", capsys)


def test_a_finished_run_resumes_as_done_and_goes_on_when_asked(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", "alae", "digits", "--images", "128", *TINY, "--out", str(out)]) == 0
    capsys.readouterr()
    assert main(["resume", str(out)]) == 0
    assert "done" in capsys.readouterr().err
    assert main(["resume", str(out), "--images", "384"]) == 0
    assert read_json(out / "config.json")["images"] == 384
    assert int(RunFolder(out).checkpoint_files()[0].name[:12]) == 384
    fails(["resume", str(out), "--images", "100"], "already seen 384 images", capsys)


def test_on_a_pipe_training_prints_plain_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "alae", "digits", "--images", "256", *TINY, "--out", str(tmp_path / "r")]) == 0
    captured = capsys.readouterr()
    last = captured.out.strip().splitlines()[-1]
    assert last.startswith("256 images")
    assert "critic/adversarial" in last
    assert "\x1b" not in captured.out
    assert "1,606 images of 8x8 with 1 channel, 191 held out; cpu" in captured.err


def test_interrupted_training_is_saved_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "anamorph"]
    words = ["train", "alae", "digits", "--images", "100000000", *TINY, "--out", str(out)]
    process = subprocess.Popen(
        [*command, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    deadline = time.monotonic() + 120
    while not (out / "metrics.jsonl").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
        if RunFolder(out).checkpoint_files():
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped and saved at" in error
    seen = int(RunFolder(out).checkpoint_files()[0].name[:12])
    assert seen > 0
    assert main(["resume", str(out), "--images", str(seen + 256)]) == 0
    assert int(RunFolder(out).checkpoint_files()[0].name[:12]) >= seen + 256


@pytest.mark.parametrize("name", ["alae", "gan", "vae"])
def test_samples_are_the_same_for_the_same_seed(runs: Path, name: str, tmp_path: Path) -> None:
    words = ["sample", str(runs / name), "--n", "9", "--out"]
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main([*words, str(tmp_path / f"{out}.png"), "--seed", seed]) == 0
    a, b, c = ((tmp_path / f"{out}.png").read_bytes() for out in "abc")
    assert a == b != c
    assert size(tmp_path / "a.png") == (12 * 2 + 3 * 64 + 2 * 4, 12 * 2 + 3 * 64 + 2 * 4)


def test_samples_can_be_truncated_and_noisy(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alae, vae = str(runs / "alae"), str(runs / "vae")
    assert main(["sample", alae, "--psi", "0", "--n", "2"]) == 0
    picture = np.asarray(Pillow.open(runs / "alae" / "sample.png"))
    assert np.array_equal(picture[12:76, 12:76], picture[12:76, 80:144])
    assert main(["sample", vae, "--noise", "fresh", "--precision", "bfloat16"]) == 0
    capsys.readouterr()
    fails(["sample", vae, "--psi", "0.5"], "truncation needs a model that maps", capsys)
    fails(
        ["sample", vae, "--temperature", "0.5"], "train a prior on its codes: `anamorph train PRIOR SOURCE --codes-of", capsys
    )
    fails(["sample", str(runs / "autoencoder")], "sampling needs a model that samples", capsys)
    fails(["sample", alae, "--n", "0"], "--n must be at least 1", capsys)
    fails(["decode", alae, str(runs / "codes"), "--n", "0"], "--n must be at least 1", capsys)
    fails(["reconstruct", alae, "--n", "0"], "--n must be at least 1", capsys)


def test_reconstructions_of_the_own_data_of_files_and_of_sources(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alae = str(runs / "alae")
    assert main(["reconstruct", alae, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["squared_errors"]) == 16
    assert size(Path(found["path"]))[1] == 12 * 2 + 4 * 64 + 3 * 4
    Pillow.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(tmp_path / "mine.png")
    assert main(["reconstruct", alae, str(tmp_path / "mine.png"), "seed:7", "data:12"]) == 0
    captured = capsys.readouterr()
    assert "mine.png was cropped around the centre" in captured.err
    assert captured.out.count("squared error") == 4
    for i in range(12):
        Pillow.fromarray(np.full((9, 9), 20 * i, np.uint8)).save(tmp_path / f"{i}.png")
    assert main(["reconstruct", alae, f"{tmp_path}:all", "--n", "5", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["squared_errors"]) == 5
    fails(["reconstruct", str(runs / "gan")], "reconstruction needs a model that encodes", capsys)
    fails(["reconstruct", alae, "data:999"], "the run has 191 held-out images, data:0 to data:190", capsys)
    fails(["reconstruct", alae, "data:x"], "a whole number behind the colon", capsys)
    fails(["reconstruct", alae, str(tmp_path / "none.png")], "cannot read", capsys)


def test_codes_go_to_a_file_and_back(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alae, path = str(runs / "alae"), tmp_path / "codes.safetensors"
    assert main(["encode", alae, "digits:test", "--out", str(path)]) == 0
    assert "codes of 191 images: w [50] real" in capsys.readouterr().out
    codes, spaces, facts = read_codes(path)
    assert codes["w"].shape == (191, 50)
    assert spaces[0].name == "w"
    assert facts["images"] == "digits:test"
    assert main(["decode", alae, str(path), "--n", "4", "--out", str(tmp_path / "d.png")]) == 0
    assert capsys.readouterr().err == ""
    assert size(tmp_path / "d.png")[0] == 12 * 2 + 2 * 64 + 4
    assert main(["encode", str(runs / "autoencoder"), "data:1", "data:2", "--out", str(path)]) == 0
    capsys.readouterr()
    fails(["decode", alae, str(path)], "codes of an unknown space 'z'", capsys)
    fails(["decode", alae, str(runs / "alae" / "config.json")], "damaged", capsys)
    fails(["encode", alae], "name the images", capsys)


def test_codes_of_another_checkpoint_are_reported(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "other"
    small = ["--threads", "1", "--compile", "off", "--images", "64", "--seed", "3", "--model.width", "16"]
    assert main(["train", "alae", "digits", *small, "--out", str(out)]) == 0
    assert main(["encode", str(out), "data:0"]) == 0
    capsys.readouterr()
    assert main(["decode", str(runs / "alae"), str(out / "codes.safetensors")]) == 0
    assert "made by another model" in capsys.readouterr().err


def test_interpolations_between_two_and_four(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alae, path = str(runs / "alae"), runs / "alae" / "interpolate.png"
    assert main(["interpolate", alae, "data:0", "seed:1", "--steps", "5"]) == 0
    assert size(path) == (12 * 2 + 5 * 64 + 4 * 4, 12 * 2 + 64)
    assert main(["interpolate", alae, "data:0", "data:1", "data:2", "seed:3", "--steps", "3"]) == 0
    assert size(path)[1] == 12 * 2 + 3 * 64 + 2 * 4
    assert main(["interpolate", alae, "seed:1", "seed:2", "--space", "z"]) == 0
    capsys.readouterr()
    fails(["interpolate", alae, "data:0", "data:1", "--space", "z"], "between two seeds", capsys)
    fails(["interpolate", str(runs / "gan"), "data:0", "seed:1"], "needs a model that encodes", capsys)
    fails(["interpolate", alae, "data:0"], "two images, or four", capsys)
    fails(["interpolate", alae, "data:0", "data:1", "--steps", "1"], "--steps must be at least 2", capsys)


def test_the_ends_of_an_interpolation_through_z_are_the_seeds(runs: Path, tmp_path: Path) -> None:
    alae = str(runs / "alae")
    assert (
        main(["interpolate", alae, "seed:1", "seed:2", "--space", "z", "--steps", "3", "--out", str(tmp_path / "z.png")]) == 0
    )
    assert main(["interpolate", alae, "seed:1", "seed:2", "--steps", "3", "--out", str(tmp_path / "w.png")]) == 0
    z, w = (np.asarray(Pillow.open(tmp_path / f"{name}.png")).astype(int) for name in "zw")
    assert np.abs(z[:, :76] - w[:, :76]).max() <= 1
    assert np.abs(z[:, -76:] - w[:, -76:]).max() <= 1


def test_info_models_sources_and_experiments_describe(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(runs / "alae")]) == 0
    text = capsys.readouterr().out
    for part in ("256 of 256 images", "w [50] real", "encode, sample, map", "Pidhorskyi", "digits"):
        assert part in text
    assert main(["info", str(runs / "vae"), "--json"]) == 0
    assert "importance weights" in json.loads(capsys.readouterr().out)["can"]
    assert main(["models"]) == 0
    assert "reciprocity" in capsys.readouterr().out
    assert main(["sources"]) == 0
    assert "avatars-cats" in capsys.readouterr().out
    assert main(["sources", "digits"]) == 0
    assert "1,606 to train, 191 to test" in capsys.readouterr().out
    assert main(["experiment", "list"]) == 0
    assert "mnist-probes" in capsys.readouterr().out


def test_logs_go_to_tensorboard_when_asked(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install tensorboard to test its logs")
    out = tmp_path / "run"
    assert main(["train", "alae", "digits", "--images", "256", *TINY, "--tensorboard", "--out", str(out)]) == 0
    (events,) = (out / "tensorboard").iterdir()
    assert b"critic/r1" in events.read_bytes()


def test_loggers_that_are_not_installed_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    fails(
        ["train", "alae", "digits", "--images", "64", *TINY, "--wandb", "--out", str(tmp_path / "r")], "anamorph[wandb]", capsys
    )


def test_a_full_disk_is_an_error_not_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (100_000, 10_000):  # a checkpoint does not fit; a picture does not
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            words = ["--model.width", "256", "--threads", "1", "--compile", "off"]
            assert main(["train", "alae", "digits", "--images", "64", *words, "--out", str(tmp_path / f"{limit}")]) == 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert re.search(r"^error: .*File too large", capsys.readouterr().err, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gradient-accumulation", "0"], "gradient-accumulation must be at least 1"),
        (["--threads", "-1"], "threads must be at least 1"),
        (["--seed", "99999999999999999999999"], "a seed lies between 0 and 2^63 - 1"),
        (["--model.beta2", "1.0"], "beta2 must be in [0, 1)"),
        (["--model.learning-rate", "-1"], "rate must be above 0"),
        (["--model.learning-rate", "nan"], "rate must be above 0"),
        (["--model.r1", "-1"], "r1 must be at least 0"),
    ],
)
def test_numbers_out_of_range_are_refused(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["train", "--images", "64", "alae", "digits", *words, "--out", str(tmp_path / "r")])
    except SystemExit as left:  # a model's own settings are refused while the command line is read
        status = int(left.code or 0)
    assert status == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_resuming_on_another_machine_is_reported(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "alae", run)
    assert main(["resume", str(run), "--images", "512", "--threads", "2"]) == 0
    assert "2 threads instead of cpu, float32, 1 thread: results will differ in the last bits" in capsys.readouterr().err
    assert RunFolder(run).config()["compute"]["threads"] == 2
    assert RunFolder(run).config()["created"] == RunFolder(runs / "alae").config()["created"]
    fails(["resume", str(run), "--images", "0"], "has already seen 512 images", capsys)


def test_a_run_goes_on_with_another_batch_and_in_parts(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "vae", run)
    before = RunFolder(run).config()
    fails(["resume", str(run), "--images", "9999", "--batch", "0"], "batch must be at least 1", capsys)
    fails(
        ["resume", str(run), "--images", "9999", "--batch", "30", "--gradient-accumulation", "4"],
        "cannot be divided into 4",
        capsys,
    )
    assert RunFolder(run).config() == before
    seen = RunFolder(run).images_seen()
    assert main(["resume", str(run), "--images", str(seen + 64), "--batch", "32", "--gradient-accumulation", "2"]) == 0
    assert RunFolder(run).images_seen() == seen + 64
    assert (RunFolder(run).config()["batch"], RunFolder(run).config()["compute"]["gradient_accumulation"]) == (32, 2)


def test_classes_that_the_images_do_not_have_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = [
        "train",
        "stylegan",
        "digits",
        "--images",
        "16",
        "--batch",
        "16",
        "--threads",
        "1",
        "--compile",
        "off",
        "--size",
        "8",
        "--out",
        str(tmp_path / "r"),
    ]
    small = ["--model.channel-base", "64", "--model.channel-max", "8", "--model.w-dim", "8", "--model.mapping-width", "8"]
    fails([*train, *small, "--model.num-classes", "7"], "the label 'class' of 7 classes, and digits has class of 10", capsys)
    assert not (tmp_path / "r").exists()
    assert main([*train, *small, "--model.num-classes", "10"]) == 0


def test_sampled_and_real_images_mix_where_the_model_reads_noise_beside_w(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, codes = str(tmp_path / "run"), tmp_path / "codes.safetensors"
    assert main(["train", "alae", "digits", "--images", "64", *TINY, "--model.eta-dim", "2", "--out", run]) == 0
    assert main(["interpolate", run, "seed:1", "data:1"]) == 0
    for images in (["seed:1", "data:1"], ["data:1", "seed:1"]):
        assert main(["encode", run, *images, "--out", str(codes)]) == 0
        assert list(read_codes(codes)[0]) == ["w"]


@pytest.mark.parametrize(("seconds", "text"), [(4.4, "4s"), (65, "1m 05s"), (3661, "1h 01m"), (float("nan"), "?"), (0, "0s")])
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_reader_that_leaves_is_met_with_silence() -> None:
    command = [sys.executable, "-m", "anamorph", "models"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
