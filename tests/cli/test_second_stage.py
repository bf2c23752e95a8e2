"""Two stages as commands: train on codes, sample, inpaint; and what goes wrong."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image as Pillow

import anamorph
from anamorph.cli.main import main
from anamorph.core.errors import UserError
from anamorph.core.space import Space
from anamorph.data.codes import CodeCounts, encode_dataset
from anamorph.data.open import open_source
from anamorph.models.autoregressive.pixelcnn import PixelCNNConfig
from anamorph.models.quantized.vqvae import VQVAE
from anamorph.models.two_stage import TwoStageModel
from anamorph.runs import load, open_training, settings_of
from anamorph.training.folder import RunFolder
from commands import fails, size

PLAIN = ["--images", "96", "--batch", "16", "--threads", "1", "--compile", "off", "--precision", "float32"]
FIRST = ["--model.width", "8", "--model.residual-channels", "4", "--model.num-embeddings", "8", "--model.embedding-dim", "4"]
PRIOR = ["--model.width", "8", "--model.layers", "2", "--model.head-channels", "8"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hardly trained runs: a VQ-VAE, a prior of its codes by class, a prior of pixels."""
    root = tmp_path_factory.mktemp("runs")
    assert main(["train", "vqvae", "digits", *PLAIN, *FIRST, "--model.stride", "2", "--out", str(root / "first")]) == 0
    by_class = ["--model.num-classes", "10"]
    prior = ["train", "pixelcnn", "digits", *PLAIN, *PRIOR, "--codes-of", str(root / "first"), *by_class]
    assert main([*prior, "--out", str(root / "prior")]) == 0
    assert main(["train", "pixelcnn", "digits", *PLAIN, *PRIOR, "--out", str(root / "pixels")]) == 0
    return root


def test_a_codebook_is_drawn_while_it_is_trained(root: Path) -> None:
    assert size(root / "first" / "pictures" / "codebooks.png")[0] > 300
    assert not (root / "prior" / "pictures" / "codebooks.png").exists()


def test_samples_follow_class_and_sampling_settings(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--n", "4", "--out", str(tmp_path / "s.png")]
    for run in ("prior", "pixels"):
        assert main(["sample", str(root / run), *out, "--temperature", "0.8", "--top-k", "3", "--top-p", "0.9"]) == 0
        assert size(tmp_path / "s.png")[0] > 8
    assert main(["sample", str(root / "prior"), *out, "--label", "class=7"]) == 0
    fails(["sample", str(root / "prior"), *out, "--label", "class=12"], "class has no class '12'", capsys)
    fails(["sample", str(root / "prior"), *out, "--label", "kind=1"], "the model does not sample by 'kind'", capsys)
    fails(["sample", str(root / "prior"), *out, "--temperature", "0"], "--temperature must be above 0", capsys)
    fails(["sample", str(root / "first"), *out], "needs a model that samples", capsys)
    assert main(["info", str(root / "prior"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["codes of"].startswith("vqvae in ")
    assert "prior" in facts["can"]


def test_a_classifier_keeps_the_best_of_several_samples(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sample", str(root / "prior"), "--n", "6", "--out", str(tmp_path / "s.png"), "--learn", "3200"]
    assert main([*words, "--keep-best", "2/8"]) == 0
    output = capsys.readouterr().err
    assert "right on held-out images: class" in output
    drawn, kept = (int(part) for part in re.findall(r"(\d+)%", output.splitlines()[-1]))
    assert kept >= drawn
    assert main([*words, "--keep-best", "1/3", "--label", "class=7"]) == 0
    assert "training a classifier" not in capsys.readouterr().err  # it was kept
    fails([*words, "--keep-best", "5/4"], "1 <= M <= N; got 5/4", capsys)
    fails([*words, "--keep-best", "half"], "is written M/N", capsys)
    fails(["sample", str(root / "pixels"), "--keep-best", "1/4"], "sample by class", capsys)


def test_a_part_of_an_image_is_sampled_anew(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = tmp_path / "mask.png"
    picture = Pillow.new("L", (8, 8))
    picture.paste(255, (0, 4, 8, 8))
    picture.save(mask)
    words = ["inpaint", str(root / "pixels"), "data:0", "--mask", str(mask), "--n", "3", "--out", str(tmp_path / "i.png")]
    assert main(words) == 0
    assert size(tmp_path / "i.png")[1] > 3 * 8
    Pillow.new("L", (8, 8)).save(mask)
    fails(words, "the mask is empty", capsys)
    Pillow.new("L", (8, 8), 255).save(mask)
    fails(words, "the mask touches every code", capsys)
    fails(["inpaint", str(root / "first"), *words[2:]], "needs a model that has a prior over its codes", capsys)


def test_a_model_of_real_codes_samples_by_a_mixture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, prior = tmp_path / "first", ["--codes-of", str(tmp_path / "first")]
    assert (
        main(["train", "autoencoder", "digits", *PLAIN, "--model.width", "8", "--model.z-dim", "3", "--out", str(first)]) == 0
    )
    for name, own in (("gaussian", []), ("mixture", ["--model.num-components", "2", "--model.num-classes", "10"])):
        out = str(tmp_path / name)
        assert main(["train", name, "digits", *PLAIN, *prior, *own, "--out", out]) == 0
        assert main(["sample", out, "--n", "3", "--temperature", "0.5", "--out", str(tmp_path / "s.png")]) == 0
        assert main(["resume", out, "--images", "160"]) == 0
        fails(["sample", out, "--top-k", "3"], "for autoregressive priors", capsys)
    assert main(["sample", str(tmp_path / "mixture"), "--label", "class=7", "--out", str(tmp_path / "s.png")]) == 0
    fails(
        ["train", "pixelcnn", "digits", *PLAIN, *prior, "--out", str(tmp_path / "x")],
        "for real codes, use gaussian or mixture",
        capsys,
    )
    fails(["train", "mixture", "digits", *PLAIN, "--out", str(tmp_path / "x")], "for whole numbers, use pixelcnn", capsys)


def test_a_prior_is_trained_from_python(root: Path, tmp_path: Path) -> None:
    def train(images: int) -> int:
        config = PixelCNNConfig(width=8, layers=2, head_channels=8)
        of = root / "first"
        ticks = anamorph.training_steps("pixelcnn", "digits", images, tmp_path / "p", config=config, batch=16, codes_of=of)
        return [status.images for status in ticks][-1]

    assert train(32) == 32
    assert train(64) == 64  # goes on
    assert isinstance(load(tmp_path / "p"), TwoStageModel)
    with pytest.raises(UserError, match="not what was asked"):
        next(anamorph.training_steps("pixelcnn", "digits", 64, tmp_path / "p", batch=16))


def test_options_that_do_not_go_together_are_refused(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, of = ["--out", str(tmp_path / "run")], ["--codes-of", str(root / "first")]
    fails(["train", "vae", "digits", *PLAIN, *of, *out], "the codes of a run are learned by a prior", capsys)
    fails(["train", "pixelcnn", "digits", *PLAIN, *of, *out, "--mirror"], "leave out mirror", capsys)
    fails(["train", "pixelcnn", "digits", *PLAIN, "--codes-of", str(tmp_path / "none"), *out], "is no run", capsys)
    wrong = ["--model.num-classes", "3"]
    fails(["train", "pixelcnn", "digits", *PLAIN, *PRIOR, *of, *wrong, *out], "has class of 10", capsys)
    fails(["train", "vqvae", "digits", *PLAIN, "--model.stride", "3", *out], "a power of two", capsys)
    fails(
        ["train", "vqvae", "digits", *PLAIN, "--model.stride", "16", *out],
        "must divide the sides of the images, got 8x8",
        capsys,
    )
    with pytest.raises(SystemExit) as ended:
        main(["train", "vqvae", "digits", *PLAIN, "--model.num-embeddings", "1", *out])
    assert ended.value.code == 2
    assert "must be at least 2" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_prior_keeps_the_model_whose_codes_it_learned(root: Path, tmp_path: Path) -> None:
    for name in ("first", "prior"):
        shutil.copytree(root / name, tmp_path / name)
    config = json.loads((tmp_path / "prior/config.json").read_text())
    (tmp_path / "prior/config.json").write_text(json.dumps(config | {"codes_of": str(tmp_path / "first")}))
    before = load(tmp_path / "prior")
    assert main(["resume", str(tmp_path / "first"), "--images", "192"]) == 0
    assert main(["resume", str(tmp_path / "prior"), "--images", "192"]) == 0
    after = load(tmp_path / "prior")
    assert isinstance(before, TwoStageModel)
    assert isinstance(after, TwoStageModel)
    first, again = before.first_stage.state_dict(), after.first_stage.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    shutil.rmtree(tmp_path / "first")
    assert main(["resume", str(tmp_path / "prior"), "--images", "256"]) == 0


def test_codes_are_found_once_and_taken_up_where_it_stopped(root: Path, tmp_path: Path) -> None:
    model, digits = load(root / "first"), open_source("digits")
    assert isinstance(model, VQVAE)
    codes = encode_dataset(model, digits, tmp_path)
    (folder,) = tmp_path.iterdir()
    shards = sorted(folder.glob("*.safetensors"))
    written = [shard.stat().st_mtime_ns for shard in shards]
    described = json.loads((folder / "codes.json").read_text())
    plain = {"layered": False, "optional": False, "ordered": False, "role": "latent"}
    assert described["spaces"][0] == {"name": "codes", "shape": [1, 4, 4], "num_codes": 8, **plain}
    assert sum(described["usage"]["codes"]) == digits.size * 16
    batch, images = codes.take(3, 5), digits.take(3, 5)
    assert isinstance(batch.x, dict)
    assert torch.equal(batch.x["codes"], model.encode(images.signals)["codes"])
    assert torch.equal(batch.labels["class"], images.labels["class"].long())
    shards[0].write_bytes(shards[0].read_bytes()[:100])  # as if it had been killed
    again = encode_dataset(model, digits, tmp_path)
    assert torch.equal(again.codes["codes"], codes.codes["codes"])
    assert [shard.stat().st_mtime_ns for shard in shards[1:]] == written[1:]


def test_a_codebook_that_is_hardly_used_is_reported() -> None:
    space = Space("codes", (1, 2, 2), 8)
    assert "3 of 8 codes are used, perplexity 3.0" in str(CodeCounts(space, (5, 5, 5, 0, 0, 0, 0, 0)))
    assert "are never used (3 of 8)" in CodeCounts(space, (5, 5, 5, 0, 0, 0, 0, 0)).warning()
    assert CodeCounts(space, (5, 5, 5, 1, 0, 0, 0, 0)).warning() == ""
    with pytest.raises(UserError, match="is the same"):
        CodeCounts(space, (15, 0, 0, 0, 0, 0, 0, 0)).check()


def test_held_out_codes_decide_which_checkpoint_is_used(root: Path) -> None:
    folder = RunFolder(root / "prior")
    checks = [r for r in folder.metrics() if "check/held_out_nats_per_code" in r]
    assert len(checks) > 2
    best = min(checks, key=lambda r: r["check/held_out_nats_per_code"])
    found = folder.latest(best=True)
    assert found is not None
    assert json.loads(found[1]["progress"])["images"] == best["images"]
    training = open_training(folder)
    assert training.settings == settings_of(folder)
    assert training.run.images == 96
