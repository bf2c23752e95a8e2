"""Every benchmark runs from end to end, at tiny sizes and with its workers in this process."""

from __future__ import annotations

import importlib
import itertools
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codes
import compression
import data
import editing
import loop
import memory
import metrics
import train_alae
import train_style
import turns
import wavenet
from anamorph.core.optimizer import Adam
from anamorph.core.signal import Label
from anamorph.data.images import Images, InMemory
from anamorph.models.adversarial import stylegan
from anamorph.models.adversarial_autoencoders import stylealae
from anamorph.models.adversarial_autoencoders.alae import ALAEConfig
from anamorph.models.autoregressive.pixelcnn import PixelCNN, PixelCNNConfig
from anamorph.nn import synthesis
from anamorph.nn.wavenet_layers import WaveNetSizes
from anamorph.presets import PRESETS
from anamorph.training.compiled import CompiledStep
from anamorph.training.loop import train
from small import differing, state
from studio_fixtures import chromium

FOLDER = Path(turns.__file__).parent
SMALL_NET = WaveNetSizes(layers=2, dilation_cycle=2, residual_channels=4, gate_channels=4, skip_channels=6, head_channels=6)


def turns_in_this_process(workers: Mapping[str, turns.Work], rounds: int) -> dict[str, list[float]]:
    """Do what `turns.turns` does, without processes."""
    generators = {name: make() for name, make in workers.items()}
    return {name: list(itertools.islice(rates, rounds)) for name, rates in generators.items()}


def noise(split: str = "train") -> Images:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (64, 1, 28, 28)).astype(np.uint8)
    label = Label("class", tuple("0123456789"))
    return Images("noise", InMemory(pixels), np.arange(64), (label,), {"class": np.arange(64) % 10})


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run everything in this process, quickly, and undo what benchmarks change for themselves."""
    for module in (train_alae, train_style, data, metrics, codes):
        monkeypatch.setattr(module, "turns", turns_in_this_process)
    for module in (train_style, data, codes):
        monkeypatch.setattr(module, "SECONDS", 0.001)
    for module in (train_alae, loop):
        monkeypatch.setattr(module, "STEPS", 2)
        monkeypatch.setattr(module, "BATCH", 8)
        monkeypatch.setattr(module, "data", noise)
    for module in (train_alae, data):
        monkeypatch.setattr(module, "ALAEConfig", partial(ALAEConfig, width=16))
    monkeypatch.setattr(train_alae, "TIMED", 1)
    monkeypatch.setattr(CompiledStep, "_compile", lambda self, function, key: function)


@pytest.fixture
def run_main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a benchmark with arguments as on the command line, and return what it prints."""

    def run(module: Any, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
        module.main()
        return capsys.readouterr().out

    return run


def test_every_benchmark_is_here_and_in_the_makefile() -> None:
    names = {path.stem for path in FOLDER.glob("*.py")} - {"turns"}
    makefile = (FOLDER.parent / "Makefile").read_text(encoding="utf-8")
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    text = Path(__file__).read_text(encoding="utf-8")
    for name in names:
        assert f"benchmarks/{name}.py" in makefile
        assert f"python benchmarks/{name}.py" in readme
        assert f"import {name}\n" in text or f'"{name}.py"' in text


def test_turns_gives_the_rates_of_processes_of_their_own() -> None:
    rates = turns.turns({"a": partial(itertools.count, 2.0), "b": partial(itertools.repeat, 5.0)}, 3)
    assert rates == {"a": [3.0, 4.0, 5.0], "b": [5.0, 5.0, 5.0]}  # the first round warms up
    assert turns.median_of([3.0, 1.0, 2.0], 1) == "2.0 (1.0 to 3.0)"
    assert turns.ratios([4.0, 9.0], [2.0, 3.0]) == "2.50 (2.00 to 3.00)"


def test_loop(run_main: Callable[..., str]) -> None:
    text = run_main(loop, "--threads", "1", "--rounds", "1")
    assert "float32, not compiled: train() " in text
    assert "bfloat16, compiled: train() " in text


@pytest.mark.parametrize("compiled", [False, True])
def test_the_bare_step_of_loop_trains_as_the_library_does(compiled: bool) -> None:
    """Weights, moments and the EMA are those of `train` after the same steps."""
    run = train_alae.make_run("float32", 1, compiled)
    step = loop.bare(run)
    step()
    other = train_alae.make_run("float32", 1, compiled)
    next(train(other, noise()))
    assert not differing(state(run), state(other))


def test_train_alae(run_main: Callable[..., str]) -> None:
    lines = run_main(train_alae, "--threads", "1", "--rounds", "1").splitlines()
    assert len(lines) == 8
    assert lines[1].startswith("a plain float32")


def test_train_alae_quality(run_main: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_alae, "PROBED", 64)
    text = run_main(train_alae, "--quality", "--threads", "1", "--images", "8")
    assert text.count("seed ") == 6
    assert text.count("±") == 8


@pytest.mark.parametrize("name", ["stylealae", "stylegan"])
def test_train_style(name: str, run_main: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (stylealae, stylegan, synthesis):  # what `be_plain` replaces returns after the test
        for function in ("upsample_conv", "downsample_conv", "blur"):
            if hasattr(module, function):
                monkeypatch.setattr(module, function, getattr(module, function))
    monkeypatch.setattr(Adam, "step", Adam.step)
    monkeypatch.setitem(train_style.SIDES, 8, 2)
    text = run_main(train_style, "--models", name, "--sides", "8", "--threads", "1", "--rounds", "1")
    assert f"{name} at   8 px, batch 2, 1 thread: (a) plain" in text


def test_train_style_single(run_main: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_style, "single", lambda rounds, single=train_style.single: single(1))
    assert "times its " in run_main(train_style, "--single")


def test_train_style_peak_of_memory(run_main: Callable[..., str]) -> None:
    smallest = min(preset.size for preset in PRESETS if preset.model == "stylegan")
    text = run_main(train_style, "--one", "stylegan", "--sides", str(smallest), "--images", "4")
    assert float(text) > 100  # MB


@pytest.mark.slow
def test_train_style_curves(run_main: Callable[..., str]) -> None:
    text = run_main(train_style, "--curves", "--models", "stylegan", "--sides", "8", "--threads", "1", "--images", "256")
    assert "seeds 0, 1, 2: (a) " in text


def test_data(run_main: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    monkeypatch.setattr(data, "SIDES", {8: 101})
    monkeypatch.setattr(data, "BATCH", 8)
    monkeypatch.setattr(data, "PHOTOS", 2)
    monkeypatch.setattr(data, "PHOTO_SIDES", {"jpg": 80, "png": 70})
    monkeypatch.setattr(data, "TARGETS", (16, 24))
    text = run_main(data)
    assert "    8 px: " in text
    assert text.count("building the cache, ") == 4


def test_metrics_alone(run_main: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "WIDTH", 16)
    assert "200 x 16: all four in " in run_main(metrics, "--only", "alone", "--images", "200")
    text = run_main(metrics, "--only", "frechet", "--images", "200")
    assert float(text.split("relative difference ")[1]) < 1e-3


def test_metrics_against_prdc(run_main: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("prdc", reason="pip install prdc to compare with it")
    for name, value in (("WIDTH", 16), ("COMPARED", 200), ("CHECKED", 100)):
        monkeypatch.setattr(metrics, name, value)
    text = run_main(metrics, "--only", "compare", "--rounds", "1")
    assert float(text.split("at 100 images: ")[1].split()[0]) < 1e-12


def test_editing(run_main: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(editing, "SIDE", 32)
    monkeypatch.setattr(editing, "LARGE_SIDE", 8)
    monkeypatch.setattr(editing, "CODES", 600)
    text = run_main(editing, "--rounds", "1", "--steps", "1")
    assert text.count("; ratio ") == 4
    assert "style factors of w of 512, 8 px" in text


@pytest.mark.parametrize("what", ["sampling", "training"])
def test_codes(what: str, run_main: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "N", 2)
    monkeypatch.setattr(codes, "SIDES", (4,))
    monkeypatch.setattr(codes, "PRIORS", {"pixelcnn": (PixelCNN, PixelCNNConfig(width=8, layers=2))})
    monkeypatch.setattr(codes, "training", lambda batch, threads, rounds, training=codes.training: training(2, threads, rounds))
    text = run_main(codes, what, "--rounds", "1", "--places", "3")
    assert ("3 of 16 places run" if what == "sampling" else "vqvae2 at 64 px, batch 2") in text


@pytest.mark.parametrize("which", ["plain", "ours"])
def test_codes_search_in_a_process(which: str, run_main: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "SEARCHED", 2000)
    seconds, _ = map(float, run_main(codes, "--one", which, "--k", "16").split())
    assert seconds > 0


@pytest.mark.slow
def test_codes_search(run_main: Callable[..., str]) -> None:
    assert run_main(codes, "search").count("of the memory") == 2


def test_wavenet(run_main: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wavenet, "RATE", 40)
    monkeypatch.setattr(wavenet, "NET", SMALL_NET)
    assert "16 at once: " in run_main(wavenet, "--rounds", "1", "--prefixes", "2")


def test_compression(run_main: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("N", 2), ("STEPS", 1), ("CNN", PixelCNNConfig(width=8, layers=1))):
        monkeypatch.setattr(compression, name, value)
    text = run_main(compression, "--rounds", "1", "--only", "vqvae and pixelcnn")
    assert "vqvae and pixelcnn (8x8 codes): 2 files written in " in text


@pytest.mark.slow
def test_memory(run_main: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SMALL", 20), ("LARGE", 40), ("TRAINED", 128)):
        monkeypatch.setattr(memory, name, value)
    assert "the larger folder takes " in run_main(memory)


@pytest.mark.slow
def test_studio() -> None:
    pytest.importorskip("playwright", reason="pip install playwright to test the page")
    if chromium() is None:
        pytest.skip("no Chromium to test the page in: apt-get install chromium, or set ANAMORPH_CHROMIUM to one")
    command = [sys.executable, str(FOLDER / "studio.py"), "--seconds", "2"]
    assert "first picture: " in subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_studios_benchmark_can_be_imported() -> None:
    pytest.importorskip("playwright", reason="pip install playwright to test the page")
    assert callable(importlib.import_module("studio").main)
