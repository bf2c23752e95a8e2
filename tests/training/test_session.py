"""Runs on disk: what is stopped, killed or damaged goes on as if nothing had happened, or says why it cannot."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from anamorph.catalog import MODELS
from anamorph.core.errors import UserError
from anamorph.core.files import read_json, read_tensors, write_json
from anamorph.data.arrays import load_arrays
from anamorph.data.read_options import ReadOptions
from anamorph.models.adversarial_autoencoders.alae import ALAEConfig
from anamorph.python_api import training_steps
from anamorph.run_data import has_held_out, open_data, preview_data
from anamorph.runs import load, new_settings, open_training, settings_of
from anamorph.training import session
from anamorph.training.autotune import ComputeRequest
from anamorph.training.folder import KEPT, RunFolder
from anamorph.training.run import ComputeSettings, Diverged, Run
from anamorph.training.session import Status, TrainingPlan, picture_milestones
from small import CASES, differing, images
from sounds import recordings

ALAE = ALAEConfig(width=16, w_dim=5, z_dim=3)
HERE = ComputeRequest(device="cpu", precision="float32", threads=1, compiled=False)
TOTAL, SIZE = 400, 8


def data(folder: Path) -> Path:
    """A small .npz of images, the same at every call."""
    path = folder / "data.npz"
    if not path.exists():
        pixels = images(60).pixels.read(np.arange(60))[:, :1]
        np.savez(path, images=pixels)
    return path


def start(folder: Path, name: str, total: int = TOTAL, config: object = ALAE) -> RunFolder:
    run = RunFolder(folder / name)
    new_settings("alae", str(data(folder)), total, config=config, batch=SIZE, compute=HERE).write(run)
    return run


def finish(run: RunFolder) -> dict[str, torch.Tensor]:
    with run.locked():
        for _ in open_training(run).run_to_end():
            pass
    found = run.latest()
    assert found is not None
    return found[0]


def logged(run: RunFolder) -> list[dict[str, object]]:
    """The log without times."""
    return [{k: v for k, v in record.items() if "seconds" not in k} for record in run.metrics()]


def stop_after(run: RunFolder, steps: int) -> None:
    """Train a few steps, then stop as Ctrl-C does."""
    calls = count(1)
    with run.locked():
        training = open_training(run)
        for _ in training.run_to_end(lambda: next(calls) > steps):
            pass
    assert run.images_seen() == training.run.images > 0


@pytest.fixture(scope="module", autouse=True)
def _all_pictures() -> Iterator[None]:
    """Make the pictures at all milestones, as outside of tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "picture_milestones", picture_milestones)
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("unbroken")
    patch = pytest.MonkeyPatch()
    patch.setenv("ANAMORPH_CACHE", str(folder / "cache"))
    run = start(folder, "run")
    finish(run)
    patch.undo()
    return run


def same(a: RunFolder, b: RunFolder) -> None:
    """Assert that two finished runs are the same: weights, moments, average, log and pictures."""
    found = a.latest(), b.latest()
    assert found[0] is not None
    assert found[1] is not None
    assert not differing(found[0][0], found[1][0])
    assert logged(a) == logged(b)
    for path in a.pictures.rglob("*.png"):
        if path.name != "curves.png":
            assert path.read_bytes() == (b.pictures / path.relative_to(a.pictures)).read_bytes(), path.name


@pytest.mark.parametrize("steps", [1, 7, 23])
def test_a_stopped_training_goes_on_bitwise(tmp_path: Path, unbroken: RunFolder, steps: int) -> None:
    run = start(tmp_path, "run")
    stop_after(run, steps)
    finish(run)
    same(unbroken, run)


def test_a_training_stopped_again_and_again_goes_on_bitwise(tmp_path: Path, unbroken: RunFolder) -> None:
    run = start(tmp_path, "run")
    for _ in range(30):
        stop_after(run, 2)
    finish(run)
    same(unbroken, run)


def test_a_training_can_be_extended(tmp_path: Path) -> None:
    run = start(tmp_path, "run", total=40)
    finish(run)
    run.update_config({"images": 80})
    finish(run)
    assert run.images_seen() == logged(run)[-1]["images"] == 80


SCRIPT = """
import sys
from anamorph.training import session
session.SAVE_SECONDS = 0.05
from anamorph.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("moment", [pytest.param("at once", marks=pytest.mark.slow), "midway"])
def test_a_killed_training_goes_on_bitwise(tmp_path: Path, unbroken: RunFolder, moment: str) -> None:
    """SIGKILL, before the first checkpoint and after some: the lock dies with the process, and nothing is lost."""
    run = start(tmp_path, "run")
    command = [sys.executable, "-c", SCRIPT, "resume", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ})
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        seen = [path for path in run.checkpoint_files() if int(path.name[:12]) > 0]
        if (run.path / "lock").exists() if moment == "at once" else seen:
            break
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    finish(run)
    same(unbroken, run)


def test_two_trainings_in_one_folder_are_refused(tmp_path: Path) -> None:
    run = start(tmp_path, "run")
    with run.locked():
        with pytest.raises(UserError, match=f"process {os.getpid()}"), RunFolder(run.path).locked():
            pass
        with pytest.raises(UserError, match="is being trained"):
            next(training_steps("alae", str(data(tmp_path)), 10, run.path))
    with run.locked():
        pass


def test_a_checkpoint_that_is_cut_short_is_passed_over(tmp_path: Path, unbroken: RunFolder) -> None:
    run = start(tmp_path, "run")
    stop_after(run, 20)
    newest = run.checkpoint_files()[0]
    newest.write_bytes(newest.read_bytes()[:-100])
    with run.locked():
        training = open_training(run)
    assert str(newest) in training.problems[0]
    assert training.run.images == run.images_seen() < int(newest.name[:12])
    with pytest.warns(UserWarning, match="an older checkpoint is loaded"):
        load(run.path)
    finish(run)
    same(unbroken, run)


def test_when_no_checkpoint_can_be_read_that_is_said(tmp_path: Path) -> None:
    run = start(tmp_path, "run")
    stop_after(run, 3)
    for path in run.checkpoint_files():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="no checkpoint of .* can be read"):
        open_training(run)
    with pytest.raises(UserError, match="no checkpoint of .* can be read"):
        load(run.path)


@pytest.mark.parametrize("number", [999, 0])
def test_a_run_of_an_unknown_format_is_refused(tmp_path: Path, number: int) -> None:
    run = start(tmp_path, "run")
    config = read_json(run.path / "config.json")
    write_json(run.path / "config.json", {**config, "format": number})
    with pytest.raises(UserError, match=f"format {number}.*reads formats 1 to "):
        open_training(run)


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    from anamorph.core.files import write_tensors

    run = start(tmp_path, "run")
    stop_after(run, 3)
    tensors, facts = read_tensors(run.checkpoint_files()[0])
    write_tensors(run.checkpoint_files()[0], tensors, {**facts, "format": "999"})
    with pytest.raises(UserError, match="format 999"):
        open_training(run)


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no run .*anamorph train"):
        settings_of(RunFolder(tmp_path))
    with pytest.raises(UserError, match="is no run"):
        load(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="was not written by anamorph"):
        settings_of(RunFolder(tmp_path))


def test_a_run_without_a_checkpoint_cannot_be_loaded_yet(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint yet.*anamorph resume"):
        load(start(tmp_path, "run").path)


def test_changed_data_are_refused(tmp_path: Path) -> None:
    run = start(tmp_path, "run")
    stop_after(run, 3)
    pixels = load_arrays(data(tmp_path))["images"]
    pixels[0] = 255 - pixels[0]
    np.savez(data(tmp_path), images=pixels)
    with pytest.raises(UserError, match="are not those that"):
        open_training(run)


def test_touched_data_are_the_same_data(tmp_path: Path) -> None:
    run = start(tmp_path, "run")
    stop_after(run, 3)
    os.utime(data(tmp_path))
    assert open_training(run).run.images > 0


def test_settings_return_as_they_were(tmp_path: Path) -> None:
    run = start(tmp_path, "run")
    settings = settings_of(run)
    assert settings.config == ALAE
    assert settings.compute == ComputeSettings("cpu", "float32", 1, False)
    assert settings.signal == images().signal.__class__(1, 6, 4)
    config = read_json(run.path / "config.json")
    assert set(config["versions"]) == {"anamorph", "torch", "python"}
    write_json(run.path / "config.json", {**config, "imagse": 3})
    with pytest.raises(UserError, match="did you mean 'images'"):
        settings_of(run)


def test_a_diverged_training_keeps_its_last_good_checkpoint(tmp_path: Path) -> None:
    run = start(tmp_path, "run", config=ALAEConfig(width=16, w_dim=5, z_dim=3, learning_rate=1e6))
    with pytest.raises(Diverged, match=r"diverged|not finite"):
        finish(run)
    found = run.latest()
    assert found is not None
    assert all(bool(torch.isfinite(t).all()) for t in found[0].values())


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SAVE_SECONDS", -1.0)  # save at every step
    run = start(tmp_path, "run", total=64)
    stop_after(run, 5)
    before = run.checkpoint_files()[0]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (before.stat().st_size // 2, hard))
    try:
        with pytest.raises(OSError, match=r"safetensors|File too large"):
            finish(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert run.checkpoint_files()[0] == before
    assert not list(run.checkpoints.glob(".*"))
    finish(run)


def test_checkpoints_are_thinned_to_the_newest_two_and_some_at_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "SAVE_SECONDS", -1.0)
    run = start(tmp_path, "run")
    finish(run)
    saved = run.checkpoint_files()
    assert len(saved) <= KEPT + 2
    kept = [path for path in saved if "-kept" in path.name]
    assert kept[0] == saved[0]
    assert int(saved[0].name[:12]) == TOTAL
    assert int(kept[-1].name[:12]) == 0


def test_pictures_are_made_at_the_milestones(unbroken: RunFolder) -> None:
    assert picture_milestones(6400) == (0, 100, 400, 800, 1600, 3200, 4800, 6400)
    strips = sorted(int(path.stem) for path in (unbroken.pictures / "strips").iterdir())
    wanted = sorted({min(-(-m // SIZE) * SIZE, TOTAL) for m in picture_milestones(TOTAL)})
    assert strips == wanted
    for name in ("timeline.png", "curves.png"):
        assert (unbroken.pictures / name).stat().st_size > 0


def test_the_log_says_what_happened(unbroken: RunFolder) -> None:
    records = unbroken.metrics()
    assert [r["images"] for r in records] == list(range(SIZE, TOTAL + 1, SIZE))
    assert {"images", "step", "seconds", "cpu_seconds", "critic/r1", "reciprocity/latent", "critic/real"} <= records[-1].keys()
    assert records[-1]["seconds"] > records[0]["seconds"] > 0


def test_a_log_line_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.log({"images": 8})
    run.log({"images": 16})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"images": 2')
    assert [r["images"] for r in run.metrics()] == [8, 16]
    run.rewind(8)
    assert [json.loads(line)["images"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [8]


def test_a_loaded_model_is_the_average(unbroken: RunFolder) -> None:
    model, found = load(unbroken.path), unbroken.latest()
    assert found is not None
    for name, value in model.state_dict().items():
        assert torch.equal(value, found[0][f"ema/{name}"])
    assert not any(p.requires_grad for p in model.parameters())


def test_the_plan_is_a_function_of_the_total() -> None:
    assert TrainingPlan.of(5000) == TrainingPlan(5000, picture_milestones(5000), 5)
    assert TrainingPlan.of(5000, (1, 2)).pictures == (1, 2)


CONFIGS = {case.model: case.config for case in CASES.values() if case.entry is None and not case.prior}
"""Small settings of every model of the catalog."""


def test_every_model_can_be_started_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "picture_milestones", lambda total: (0, total))
    for name, config in CONFIGS.items():
        out, wanted = tmp_path / name, None
        source = "digits" if name.startswith(("style", "vq")) else str(data(tmp_path))
        if "image" not in MODELS[name].signals:
            source, wanted = str(recordings(tmp_path / "sounds")), ReadOptions(window=192, name_pattern="{digit}_{speaker}_*")
        statuses = list(training_steps(name, source, 16, out, config=config, batch=SIZE, read_options=wanted))
        assert statuses[-1].images == 16
        assert list(training_steps(name, source, 16, out, batch=SIZE, read_options=wanted)) == []
        (*_, last) = training_steps(name, source, 24, out, config=config, batch=SIZE, read_options=wanted)
        assert last.images == settings_of(RunFolder(out)).images == 24


def test_sounds_that_are_read_otherwise_are_another_run(tmp_path: Path) -> None:
    source, config = str(recordings(tmp_path / "sounds")), CONFIGS["autoencoder"]
    wanted = ReadOptions(window="0.05s")  # 200 samples

    def again(wanted: ReadOptions) -> list[Status]:
        return list(training_steps("autoencoder", source, 8, tmp_path / "run", config=config, batch=8, read_options=wanted))

    assert len(again(wanted)) > 0
    assert again(ReadOptions(window=200)) == []
    with pytest.raises(UserError, match="holds a run of window 200, which is not what was asked"):
        again(ReadOptions(window=100))


def test_another_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    run = start(tmp_path, "run")
    source = str(data(tmp_path))
    for arguments in (("vae", source, TOTAL), ("alae", "digits", TOTAL), ("alae", source, TOTAL - 1)):
        with pytest.raises(UserError, match="holds a run of .* choose another folder"):
            next(training_steps(*arguments, run.path, batch=SIZE))
    with pytest.raises(UserError, match="holds a run of seed 0"):
        next(training_steps("alae", source, TOTAL, run.path, batch=SIZE, seed=9))


def test_nothing_is_left_of_what_could_not_begin_or_was_killed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"), RunFolder(tmp_path / "typo").locked():
        raise UserError("no such file")
    assert not (tmp_path / "typo").exists()
    run = start(tmp_path, "run")
    run.checkpoints.mkdir()
    (run.checkpoints / ".000000000008.safetensors.0123abcd.part").write_bytes(b"half")
    (run.checkpoints / "000000000008 copy.safetensors").write_bytes(b"mine")
    finish(run)
    assert not list(run.checkpoints.glob(".*"))
    assert (run.checkpoints / "000000000008 copy.safetensors").exists()


def test_pictures_show_held_out_images_where_there_are_some(tmp_path: Path) -> None:
    path = data(tmp_path)
    for suffix, held in (("", True), (":train", True), (":all", False)):
        settings = new_settings("alae", f"{path}{suffix}", 8, config=ALAE, batch=SIZE, compute=HERE)
        trained, seen = (source.in_order().take(0, source.size) for source in (open_data(settings), preview_data(settings)))
        common = {x.numpy().tobytes() for x in trained.signals} & {x.numpy().tobytes() for x in seen.signals}
        assert has_held_out(settings) == held == (not common)


def test_images_are_shown_in_one_order_that_is_not_the_folders(tmp_path: Path) -> None:
    settings = settings_of(start(tmp_path, "run"))
    first, again = (preview_data(settings).take(0, 4).signals for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, preview_data(settings).in_order().take(0, 4).signals)


def test_a_run_is_made_by_its_settings_alone(tmp_path: Path) -> None:
    run = start(tmp_path, "run")
    a, b = (open_training(run).run for _ in range(2))
    assert isinstance(a, Run)
    assert not differing(a.tensors(), b.tensors())
