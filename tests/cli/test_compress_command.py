"""`compress` and `decompress` as commands, and what goes wrong with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from anamorph.cli.main import main
from anamorph.coding.compress import reconstruct
from anamorph.coding.container import unpack
from anamorph.data.images import to_signal
from anamorph.figures.grid import as_picture
from anamorph.models.autoregressive.pixelcnn import PixelCNNConfig
from anamorph.models.quantized.vqvae import VQVAEConfig
from anamorph.run_data import preview_data
from anamorph.runs import load, new_settings, open_training, settings_of
from anamorph.training.autotune import ComputeRequest
from anamorph.training.folder import RunFolder
from commands import fails, size

FIRST = VQVAEConfig(width=8, residual_channels=4, num_embeddings=8, embedding_dim=4, stride=2)
PRIOR = PixelCNNConfig(width=8, layers=2, head_channels=8)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hardly trained runs: a VQ-VAE, two priors of its codes, one of them by class, and a prior of pixels."""
    root = tmp_path_factory.mktemp("runs")
    trained(root / "first", "vqvae", FIRST)
    trained(root / "prior", "pixelcnn", PRIOR, root / "first")
    trained(root / "classes", "pixelcnn", replace(PRIOR, num_classes=10), root / "first")
    trained(root / "pixels", "pixelcnn", PRIOR)
    return root


def trained(run: Path, model: str, config: object, codes_of: Path | None = None) -> None:
    folder, choice = RunFolder(run), ComputeRequest("cpu", "float32", 1, False)
    of = "" if codes_of is None else str(codes_of)
    new_settings(model, "digits", 32, config=config, batch=16, pictures=(32,), compute=choice, codes_of=of).write(folder)
    with folder.locked():
        for _ in open_training(folder).run_to_end():
            pass


def pictures(folder: Path, n: int, side: int = 8, mode: str = "L") -> list[Path]:
    """Grey noise, as PNG files."""
    generator = np.random.default_rng(n)
    paths = [folder / f"picture{i}.png" for i in range(n)]
    for path in paths:
        Pillow.fromarray(generator.integers(0, 256, (side, side), np.uint8)).convert(mode).save(path)
    return paths


def values(path: Path) -> torch.Tensor:
    with Pillow.open(path) as picture:
        return torch.from_numpy(np.array(picture))


def words(paths: list[Path]) -> list[str]:
    return [str(path) for path in paths]


def test_there_and_back_is_the_reconstruction(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    originals = pictures(tmp_path, 3)
    x = to_signal(np.stack([values(path).numpy() for path in originals])[:, None])
    assert main(["compress", str(root / "prior"), *words(originals), "--json"]) == 0
    output = json.loads(capsys.readouterr().out)["files"]
    files = [path.with_suffix(".anam") for path in originals]
    assert [fact["path"] for fact in output] == words(files)
    for fact, path in zip(output, files, strict=True):
        assert fact["bytes"] == path.stat().st_size
        assert 0 < fact["code_bytes"] < fact["bytes"]
        assert fact["bits_per_pixel"] == pytest.approx(8 * fact["bytes"] / 64)
    back = tmp_path / "back"
    assert main(["decompress", str(root / "prior"), *words(files), "--out", str(back)]) == 0
    for path, one in zip(originals, reconstruct(load(root / "prior"), x), strict=True):
        assert torch.equal(values(back / path.name), torch.from_numpy(np.array(as_picture(one))))
    assert not list(tmp_path.rglob("*.part"))


def test_pixels_come_back_without_loss(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    originals, back = pictures(tmp_path, 2), tmp_path / "back"
    whole = tmp_path / "all.anam"
    assert main(["compress", str(root / "pixels"), *words(originals), "--out", str(whole), "--json"]) == 0
    (output,) = json.loads(capsys.readouterr().out)["files"]
    assert (output["images"], output["bits_per_pixel"]) == (2, pytest.approx(8 * whole.stat().st_size / 128))
    assert main(["decompress", str(root / "pixels"), str(whole), "--out", str(back)]) == 0
    for i, path in enumerate(originals):
        assert torch.equal(values(back / f"all-{i}.png"), values(path))


def test_a_source_becomes_one_file_with_its_labels(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, file = ["--out", str(tmp_path / "digits")], tmp_path / "digits" / "compressed.anam"
    assert main(["compress", str(root / "classes"), "digits", *out]) == 0
    assert main(["decompress", str(root / "classes"), str(file)]) == 0
    held = preview_data(settings_of(RunFolder(root / "classes"))).in_order()
    assert len(list(file.parent.glob("compressed-*.png"))) == held.size
    assert unpack(file.read_bytes()).labels == tuple((int(c),) for c in held.take(0, held.size).labels["class"])
    assert main(["compress", str(root / "classes"), "data:0", "data:1", "--label", "class=7"]) == 0
    assert main(["decompress", str(root / "classes"), str(root / "classes" / "data-0.anam")]) == 0
    assert size(root / "classes" / "data-0.png") == (8, 8)
    fails(["compress", str(root / "classes"), "data:2"], "or --label class=NAME", capsys)
    fails(["compress", str(root / "classes"), "data:2", "--label", "class=12"], "class has no class '12'", capsys)


def test_images_that_do_not_fit_are_refused_or_reported(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (large,) = pictures(tmp_path, 1, 20)
    run, at = str(root / "prior"), str(large)
    fails(
        ["compress", run, at], "does not fit the model, which takes images of 8x8 with 1 channel: it would be resized", capsys
    )
    assert main(["compress", run, at, "--fit"]) == 0
    assert "was resized" in capsys.readouterr().err
    file = str(large.with_suffix(".anam"))
    fails(["decompress", run, file], "exists already", capsys)
    assert main(["decompress", run, file, "--out", str(tmp_path / "back")]) == 0
    assert "8x8 with 1 channel, from 20x20" in capsys.readouterr().out
    (tmp_path / "colour").mkdir()
    (colour,) = pictures(tmp_path / "colour", 1, 8, "RGB")
    fails(["compress", run, str(colour)], "it would be with colour, reduced to grey", capsys)
    (tmp_path / "several").mkdir()
    pictures(tmp_path / "several", 3, 20)
    fails(["compress", run, f"{tmp_path / 'several'}:all"], "do not fit the model, which takes 8x8", capsys)
    assert main(["compress", run, f"{tmp_path / 'several'}:all", "--fit", "--out", str(tmp_path / "several.anam")]) == 0


def test_nothing_is_overwritten_unasked(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = pictures(tmp_path, 1)
    command = ["compress", str(root / "prior"), str(path)]
    assert main(command) == 0
    before = path.with_suffix(".anam").read_bytes()
    fails(command, "exists already", capsys)
    assert main([*command, "--overwrite"]) == 0
    assert path.with_suffix(".anam").read_bytes() == before
    fails([*command, str(path), "--overwrite"], "two files would be written to", capsys)
    fails(["decompress", str(root / "prior"), str(path.with_suffix(".anam"))], "exists already", capsys)


def test_bad_input_is_reported(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(root / "prior")
    (path,) = pictures(tmp_path, 1)
    fails(["compress", run], "name the images to compress", capsys)
    fails(["decompress", run], "name the files to decompress", capsys)
    fails(["compress", str(root / "first"), str(path)], "compression needs a model with a prior over its codes", capsys)
    fails(["compress", run, str(tmp_path / "none.png")], "none.png", capsys)
    fails(["decompress", run, str(tmp_path / "none.anam")], "cannot read", capsys)
    fails(["decompress", run, str(path)], "is not a file of `anamorph compress`", capsys)
    assert main(["compress", run, str(path)]) == 0
    file = path.with_suffix(".anam")
    fails(["decompress", str(root / "pixels"), str(file), "--overwrite"], "by another model", capsys)
    file.write_bytes(file.read_bytes()[:-3])
    fails(["decompress", run, str(file), "--overwrite"], "damaged or cut short", capsys)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["picture0.anam", "picture0.png"]
