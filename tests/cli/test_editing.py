"""The latent tools as commands: mix, vary, interpolate, directions, traverse, project."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image as Pillow

from anamorph.cli.main import main
from anamorph.core.space import read_codes
from anamorph.edit.directions import Directions
from commands import fails, size

PLAIN = ["--images", "64", "--batch", "16", "--threads", "1", "--compile", "off", "--precision", "float32"]
SMALL = ["--model.w-dim", "8", "--model.channel-base", "64", "--model.channel-max", "8", "--model.mapping-layers", "2"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hardly trained runs of a model with layers, an encoder and noise; of one without an encoder; of two without layers."""
    root = tmp_path_factory.mktemp("runs")
    for name, more in (
        ("stylealae", SMALL),
        ("stylegan", [*SMALL, "--model.z-dim", "4", "--model.mapping-width", "8"]),
        ("vae", ["--model.z-dim", "6"]),
        ("autoencoder", ["--model.z-dim", "6"]),
    ):
        assert main(["train", name, "shapes", "--size", "16", *PLAIN, *more, "--out", str(root / name)]) == 0
    return root


def test_a_table_of_mixes_from_real_and_sampled_images(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = str(root / "stylealae"), tmp_path / "m.png"
    table = ["mix", run, "--rows", "data:0", "seed:1", "--columns", "data:2", "seed:3", "seed:4", "--out", str(out)]
    assert main([*table, "--layers", "0-1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 6
    assert size(out)[1] > 3 * 64
    both = ["mix", run, "--rows", "seed:1+data:0", "--columns", "seed:3", "--out", str(out)]
    assert main([*both, "--layers", "coarse", "fine"]) == 0
    fails(
        [*both, "--layers", "coarse"],
        "one image for each of --layers, joined by +; got --rows seed:1+data:0 for 1 ranges",
        capsys,
    )
    capsys.readouterr()
    assert main([*table, "--statistics", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["statistics"]) == {"coarse styles", "middle styles", "fine styles", "noise"}
    fails([*table, "--layers", ""], "layers are written", capsys)
    assert size(tmp_path / "m-statistics.png")[0] > 300
    fails([*table, "--layers", "0-9"], "there are layers 0-5, got 0-9", capsys)
    fails([*table, "--share", "0.5"], "--share is for models without layers", capsys)
    fails(["mix", run, "--rows", "seed:1"], "name the images of the table", capsys)


def test_codes_without_layers_are_blended(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.png"
    table = ["mix", str(root / "vae"), "--rows", "data:0", "--columns", "data:1", "seed:3", "--out", str(out)]
    assert main([*table, "--share", "0.25"]) == 0
    assert "between left and above" in capsys.readouterr().out
    fails([*table, "--share", "nan"], "a share is a finite number", capsys)
    for more in (["--layers", "fine"], ["--statistics"]):
        fails([*table, *more], "codes of this model (z) have no layers: stylealae, stylegan can", capsys)


def test_an_image_varies_in_psi_and_in_noise(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = str(root / "stylealae"), ["--out", str(tmp_path / "v.svg")]
    assert main(["vary", run, "data:0", "seed:1", "--psi", "-1:1.5", *out]) == 0
    assert (tmp_path / "v.svg").read_text().count("<image") == 12
    assert main(["vary", run, "data:0", "--psi", "0:1", "--layers", "coarse", "--steps", "3", *out]) == 0
    assert main(["vary", run, "data:0", "--noise", "--layers", "2-5", *out]) == 0
    assert "std x 8" in (tmp_path / "v.svg").read_text()
    fails(["vary", run, "data:0"], "choose what to vary", capsys)
    fails(["vary", run, "data:0", "--psi", "1", *out], "a range of two numbers", capsys)
    fails(["vary", run, "data:0", "--psi", "nan:1", *out], "psi must be a finite number", capsys)
    fails(["vary", run, "--psi", "0:1"], "name the images", capsys)
    fails(["vary", str(root / "vae"), "seed:0", "--noise"], "no noise maps to vary: stylealae, stylegan can", capsys)
    fails(["vary", str(root / "vae"), "seed:0", "--psi", "0:1"], "truncation needs a model that maps", capsys)


def test_interpolation_moves_some_layers_and_writes_a_video(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, video = str(root / "stylealae"), tmp_path / "f.webp"
    strip = ["interpolate", run, "data:0", "seed:1", "--steps", "30", "--out", str(tmp_path / "i.png")]
    assert main([*strip, "--layers", "fine", "--video", str(video)]) == 0
    with Pillow.open(video) as opened:
        assert opened.n_frames == 58  # type: ignore[attr-defined]
    assert "12 of 30 images" in capsys.readouterr().out
    fails([*strip, "--video", "way.gif"], "a film is written as", capsys)
    fails([*strip[:-4], "--steps", "1"], "--steps must be at least 2", capsys)
    for name in ("stylegan", "vae"):
        drawn = ["interpolate", str(root / name), "seed:0", "seed:1", "--space", "z", "--steps", "5"]
        assert main([*drawn, "--out", str(tmp_path / "i.png")]) == 0
    fails(["interpolate", str(root / "autoencoder"), "data:0", "data:1", "--space", "z"], "needs a model that samples", capsys)
    fails([*strip, "--layers", "7"], "there are layers 0-5", capsys)
    fails(["interpolate", run, *(f"seed:{i}" for i in range(4)), "--video", str(video)], "between two images", capsys)
    fails(["interpolate", str(root / "vae"), "seed:0", "seed:1", "--layers", "0"], "have no layers", capsys)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("stylealae", ["--method", "pca", "--k", "3", "--n", "50"]),
        ("stylealae", ["shapes", "--method", "pca", "--k", "3", "--n", "50"]),
        ("stylealae", ["--method", "sefa", "--k", "3", "--layers", "fine", "--n", "50"]),
        ("stylegan", ["--method", "sefa", "--k", "3", "--n", "50"]),
        ("vae", ["shapes", "--method", "svm", "--label", "shape", "--n", "200"]),
        ("autoencoder", ["shapes", "--method", "logistic", "--label", "shape", "--n", "200", "--without", "shape=triangle"]),
    ],
)
def test_directions_are_found_and_traversed(
    root: Path, tmp_path: Path, name: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found, out, image = tmp_path / "d", tmp_path / "t.png", "data:0" if name != "stylegan" else "seed:0"
    assert main(["directions", str(root / name), *words, "--out", str(found)]) == 0
    directions = Directions.read(found)
    assert all(name in capsys.readouterr().out for name in directions.names[:1])
    torch.testing.assert_close(directions.vectors.norm(dim=1), torch.ones(len(directions)))
    assert bool((directions.scales > 0).all())
    assert "shape=triangle" not in directions.names or "--without" not in words
    go = ["traverse", str(root / name), image, "--directions", str(found), "--out", str(out)]
    assert main([*go, "--steps", "3", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert ("moved" in output) == (name != "stylegan")  # which has no encoder to look with
    assert {len(row) for row in output.get("moved", [directions.names])} == {len(directions)}
    assert size(out)[1] > len(directions) * 64
    assert main([*go, "--names", directions.names[0], "--reach", "1"]) == 0
    fails([*go, "--reach", "0"], "--reach must be above 0", capsys)
    fails([*go, "--names", "sideways"], "no direction 'sideways'", capsys)
    other = "vae" if name != "vae" else "autoencoder"
    if name.startswith("style"):
        fails(
            ["traverse", str(root / other), "data:0", "--directions", str(found)], "of the space 'w', the model has z", capsys
        )
    else:
        assert main(["traverse", str(root / other), "data:0", "--directions", str(found), "--out", str(out)]) == 0
        assert "was made for another model" in capsys.readouterr().err


def test_what_else_changes_is_read_by_a_classifier(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, run = tmp_path / "d", str(root / "vae")
    assert main(["directions", run, "shapes", "--method", "linear", "--label", "shape", "--n", "100", "--out", str(found)]) == 0
    go = ["traverse", run, "data:0", "--directions", str(found), "--out", str(tmp_path / "t.png"), "--json"]
    capsys.readouterr()
    assert main([*go, "--factors", "shapes", "--learn", "640"]) == 0
    output = capsys.readouterr()
    changed = json.loads(output.out)["changed"]
    assert set(changed) == set(Directions.read(found).names)
    assert all(0 <= share <= 1 for row in changed.values() for share in row.values())
    assert "training a classifier of shape" in output.err
    assert size(tmp_path / "t-factors.png")[0] > 300
    assert main([*go, "--factors", "shapes", "--learn", "640"]) == 0
    again = capsys.readouterr()
    assert "training" not in again.err
    assert json.loads(again.out)["changed"] == changed
    fails([*go, "--factors", "no-such-set"], "no such file or folder", capsys)


def test_directions_that_cannot_be_found_are_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(root / "stylealae")
    fails(["directions", run, "--method", "svm"], "--method svm needs a SOURCE with labels", capsys)
    fails(["directions", run, "--n", "8"], "more than 8 codes, got 8", capsys)
    fails(["directions", run, "--n", "1"], "--n must be at least 2", capsys)
    fails(["directions", run, "--k", "9", "--n", "50"], "1 to 8 directions, got 9", capsys)
    fails(["directions", run, "shapes", "--method", "svm", "--label", "mood"], "no label 'mood'", capsys)
    fails(
        ["directions", str(root / "vae"), "--method", "sefa"],
        "needs a model that has styles; VAE only encodes, samples, has a likelihood given codes, has importance weights: "
        "stylealae, stylegan can",
        capsys,
    )
    fails(["directions", str(root / "autoencoder")], "needs a model that samples", capsys)
    fails(["directions", str(root / "stylegan"), "shapes"], "needs a model that encodes", capsys)
    fails(["traverse", run, "seed:0", "--directions", str(root / "nothing")], "no such file", capsys)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("stylealae", ["data:0", "seed:1", "--space", "w+"]),
        ("stylealae", ["data:0", "--space", "noise", "--drawn"]),
        ("stylegan", ["data:0"]),
        ("autoencoder", ["data:0"]),
    ],
)
def test_images_are_projected(
    root: Path, tmp_path: Path, name: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "p.png"
    assert main(["project", str(root / name), *words, "--steps", "5", "--out", str(out), "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert all(row["after"] <= row["before"] for row in output["images"])
    assert ("outside" in output["images"][0]) == (name != "autoencoder")
    codes, _, _ = read_codes(tmp_path / "p-codes.safetensors")
    assert main(["decode", str(root / name), str(tmp_path / "p-codes.safetensors"), "--out", str(out)]) == 0
    assert len(next(iter(codes.values()))) == sum(not word.startswith("-") and ":" in word for word in words)


def test_what_cannot_be_projected_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(["project", str(root / "vae")], "name the images", capsys)
    fails(["project", str(root / "vae"), "data:0", "--space", "w+"], "to optimise one by one: stylealae, stylegan can", capsys)
    fails(["project", str(root / "autoencoder"), "data:0", "--drawn"], "needs a model that samples", capsys)
    fails(["project", str(root / "vae"), "data:0", "--prior-weight", "nan"], "prior weight of at least 0", capsys)
    fails(["project", str(root / "vae"), "data:0", "--steps", "0"], "--steps must be at least 1", capsys)
