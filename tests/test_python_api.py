"""What notebooks use: the names of the package, training to the end, and a model's own methods."""

from __future__ import annotations

import inspect
import multiprocessing
import pickle
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import anamorph
from anamorph.core.errors import UserError
from anamorph.core.model import LatentModel, UnsupportedOperation
from anamorph.core.signal_batch import SignalBatch
from anamorph.training.autotune import ComputeRequest
from small import CASES, build_case, make_run

TINY: dict[str, Any] = {"width": 16, "w_dim": 5, "z_dim": 3}
QUICK: dict[str, Any] = {"batch": 16, "compute": ComputeRequest("cpu", "float32", 1, False), "progress": False}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> anamorph.TrainedRun:
    return anamorph.train("alae", "digits", 64, tmp_path_factory.mktemp("api") / "run", **TINY, **QUICK)


def ready(case: str) -> LatentModel:
    model = make_run(case).model.eval()
    assert isinstance(model, LatentModel)
    return model


def test_names_and_version_are_known_without_torch() -> None:
    code = """
import sys, anamorph
assert set(anamorph.__all__) <= set(dir(anamorph))
assert anamorph.__version__
assert "torch" not in sys.modules, "torch is loaded"
for name in anamorph.__all__:
    assert getattr(anamorph, name) is not None
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        anamorph.trian  # noqa: B018


def test_models_and_priors_are_listed() -> None:
    assert {"alae", "vae", "audio_vqvae"} <= set(anamorph.list_models())
    assert "audio_vqvae" not in anamorph.list_models("image")
    assert "pixelcnn" in anamorph.list_priors()


def test_training_ends_with_a_run(run: anamorph.TrainedRun) -> None:
    assert run.images_seen == 64
    assert "alae on digits, 64 of 64 images" in repr(run)
    assert run.log[-1]["images"] == 64
    assert run.settings.config.w_dim == 5
    assert isinstance(run.model, LatentModel)
    assert run.pictures
    image = run._repr_png_()
    assert image is not None
    assert Pillow.open(BytesIO(image)).format == "PNG"
    assert anamorph.load(run).signal == run.model.signal
    with pytest.raises(TypeError, match="anamorph.training_steps"):
        next(iter(run))


def test_training_goes_on_and_refuses_another_run(run: anamorph.TrainedRun, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = next(anamorph.training_steps("alae", "digits", 48, out, **TINY, **QUICK))
    assert first.total == 48
    more = anamorph.train("alae", "digits", 64, out, **TINY, **QUICK)
    same = anamorph.load(run).state_dict()
    assert all(torch.equal(value, same[name]) for name, value in more.model.state_dict().items())
    with pytest.raises(UserError, match="which is not what was asked for"):
        anamorph.train("vae", "digits", 64, out, progress=False)
    with pytest.raises(UserError, match="which is not what was asked for"):
        anamorph.train("alae", "digits", 64, out, width=8, progress=False)
    with pytest.raises(UserError, match="did you mean 'learning_rate'"):
        anamorph.train("alae", "digits", 64, out, learningrate=0.1, progress=False)
    with pytest.raises(UserError, match="size is a part of read_options"):
        anamorph.training_steps("alae", "digits", 64, out, size=8, read_options=anamorph.ReadOptions())


def test_training_on_data_in_memory_is_training_on_their_file(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (80, 8, 8, 3)).astype(np.uint8)
    plain = anamorph.train("alae", pixels, 32, tmp_path / "a", **TINY, **QUICK)
    assert plain.settings.source == str(tmp_path / "a" / "data.npz")
    assert str(plain.model.signal) == "8x8 with 3 channels"
    labelled = [(pixels[i], i % 3) for i in range(80)]

    class Pairs(torch.utils.data.Dataset[tuple[np.ndarray[Any, Any], int]]):
        def __len__(self) -> int:
            return len(labelled)

        def __getitem__(self, index: int) -> tuple[np.ndarray[Any, Any], int]:
            return labelled[index]

    pairs = anamorph.train("alae", Pairs(), 32, tmp_path / "b", **TINY, **QUICK)
    source = anamorph.open_source(pairs.settings.source, split="all").in_order()
    assert [int(example.labels["class"]) for example in source] == [i % 3 for i in range(80)]
    torch.testing.assert_close(source[5].signal, torch.from_numpy(pixels[5]).movedim(-1, 0) / 127.5 - 1)
    again = anamorph.train("alae", pixels, 48, tmp_path / "a", **TINY, **QUICK)
    assert again.images_seen == 48
    with pytest.raises(UserError, match="holds the other images"):
        anamorph.train("alae", 255 - pixels, 64, tmp_path / "a", **TINY, **QUICK)


def test_a_source_is_shown_in_a_notebook() -> None:
    source = anamorph.open_source("digits")
    assert repr(source) == f"Dataset('digits', {len(source):,} images of 8x8 with 1 channel, labels: class)"
    assert isinstance(source[0].signal, SignalBatch)
    data = source._repr_png_()
    assert data is not None
    assert Pillow.open(BytesIO(data)).format == "PNG"


def test_runs_are_evaluated_and_compared(run: anamorph.TrainedRun, tmp_path: Path) -> None:
    result = anamorph.evaluate(run, n=48, metrics=["errors"], features="pixels")
    assert result.measures["reconstruction_mse"].value > 0
    assert "MSE" in result._repr_html_()
    other = anamorph.train("autoencoder", "digits", 64, tmp_path / "other", **QUICK)
    comparison = anamorph.compare([run, other], n=48, metrics=["errors"], features="pixels")
    assert "<table>" in comparison._repr_html_()


def test_steps_take_the_arguments_of_training() -> None:
    own, steps = (inspect.signature(f).parameters for f in (anamorph.train, anamorph.training_steps))
    assert [name for name in steps if name in own] == [name for name in steps if name != "options"]


def test_progress_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    anamorph.train("alae", "digits", 32, tmp_path, **TINY, **{**QUICK, "progress": True})
    assert "32 images" in capsys.readouterr().out


@pytest.mark.parametrize("case", ["alae", "vae", "projection_gan", "pixelcnn", "wavenet-class"])
def test_samples_are_a_function_of_the_seed(case: str) -> None:
    model = ready(case)
    one, again, other = model.sample(3, seed=1), model.sample(3, seed=1), model.sample(3, seed=2)
    assert one.shape == (3, *model.signal.shape)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_samples_of_a_class() -> None:
    model = ready("projection_gan")
    ((name, classes),) = model.classes.items()
    assert torch.equal(model.sample(2, labels={name: 1}), model.sample(2, labels={name: [1, 1]}))
    for wrong in (classes, -1, [0, 1, 0]):
        with pytest.raises(UserError, match=rf"'{name}'"):
            model.sample(2, labels={name: wrong})
    with pytest.raises(UserError, match="no label 'fur'"):
        model.sample(2, labels={"fur": 0})


def test_operations_that_a_model_lacks_are_refused() -> None:
    with pytest.raises(UnsupportedOperation, match="train a prior over its codes"):
        ready("vqvae").sample(2)
    with pytest.raises(UnsupportedOperation, match="needs a model that encodes"):
        ready("gan").reconstruct(torch.zeros(1, 2, 6, 4))
    with pytest.raises(UnsupportedOperation, match="has a prior over its codes"):
        ready("alae").sample(2, temperature=0.5)


def test_reconstructions_take_what_people_have() -> None:
    model = ready("alae")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 6, 4, 2)).astype(np.uint8)
    floats = torch.from_numpy(pixels).float() / 127.5 - 1
    expected = model.reconstruct(floats.movedim(-1, 1))
    torch.testing.assert_close(model.reconstruct(pixels), expected)
    torch.testing.assert_close(model.reconstruct(list(pixels)), expected)
    torch.testing.assert_close(model.reconstruct(pixels[0]), expected[:1])
    with pytest.raises(UserError, match="bring them to that size first"):
        model.reconstruct(np.zeros((3, 12, 8, 2), np.uint8))
    with pytest.raises(UserError, match="floats in \\[-1, 1\\]"):
        model.reconstruct(floats.movedim(-1, 1) * 127.5 + 127.5)


def test_interpolation_goes_from_one_reconstruction_to_another() -> None:
    model = ready("alae")
    a, b = torch.rand(2, 1, 2, 6, 4) * 2 - 1
    between = model.interpolate(a, b, steps=5)
    assert between.shape == (5, 2, 6, 4)
    torch.testing.assert_close(between[:1], model.reconstruct(a))
    torch.testing.assert_close(between[-1:], model.reconstruct(b))
    with pytest.raises(UserError, match="at least 2 steps"):
        model.interpolate(a, b, steps=1)
    with pytest.raises(UserError, match="from one image to another"):
        model.interpolate(torch.cat([a, b]), b)


def test_batches_are_pictures_in_a_notebook() -> None:
    model = ready("alae")
    batch = model.sample(20)
    data = batch._repr_png_()
    assert data is not None
    picture = Pillow.open(BytesIO(data))
    assert picture.width > picture.height
    assert repr(batch) == "SignalBatch(20 images of 6x4 with 2 channels; dtype=torch.float32, device=cpu)"
    assert isinstance(batch[3:5], SignalBatch)
    assert isinstance(batch[0], SignalBatch)
    assert repr(batch[0]).startswith("SignalBatch(one image")
    assert type(batch[0, 0]) is torch.Tensor
    assert type(batch + 1) is torch.Tensor
    assert type(batch.numpy()) is np.ndarray
    copy = pickle.loads(pickle.dumps(batch))
    assert isinstance(copy, SignalBatch)
    assert torch.equal(copy, batch)
    grey = SignalBatch.of(torch.zeros(2, 1, 4, 4), type(batch.signal)(1, 4, 4))
    assert [image.size for image in grey.to_pil()] == [(4, 4)] * 2


def test_sounds_are_spectrograms_in_a_notebook() -> None:
    batch = ready("wavenet-class").sample(2)
    data = batch._repr_png_()
    assert data is not None
    assert Pillow.open(BytesIO(data)).format == "PNG"
    page = batch._repr_html_()
    assert page is not None
    assert page.count("<audio") == 2


def test_images_are_read_at_a_size_or_like_a_model(tmp_path: Path, run: anamorph.TrainedRun) -> None:
    picture = Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8))
    picture.save(tmp_path / "a.png")
    assert anamorph.read_images(tmp_path / "a.png").shape == (1, 3, 20, 30)
    both = anamorph.read_images([str(tmp_path / "a.png"), picture], size=(8, 16))
    assert both.shape == (2, 3, 8, 16)
    assert torch.equal(both[0], both[1])
    like = anamorph.read_images(picture, like=run)
    assert like.shape == (1, 1, 8, 8)
    assert run.model.reconstruct(like).shape == like.shape
    with pytest.raises(UserError, match="cannot be read"):
        anamorph.read_images(tmp_path / "missing.png")
    with pytest.raises(UserError, match="no images were given"):
        anamorph.read_images([])


def _in_another_process(model: LatentModel) -> torch.Tensor:
    return model.sample(2, seed=3).clone()


def test_a_model_can_be_sent_to_another_process() -> None:
    model = build_case("vae")[0].eval()
    assert "vae" in CASES
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert torch.equal(pool.apply(_in_another_process, (model,)), model.sample(2, seed=3))
