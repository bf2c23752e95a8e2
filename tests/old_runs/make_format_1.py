"""Small runs of every model and prior, as anamorph of config format 1 wrote them: `python tests/old_runs/make_format_1.py`.

It runs with the anamorph that it belongs to (git log of this file). Each run is a zip in format_1/, and in it expected.json:
what was sampled and reconstructed, and what became of all tensors when training went on.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image as Pillow
from torch import Tensor

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from anamorph.catalog import build  # noqa: E402
from anamorph.cli.main import main  # noqa: E402
from anamorph.core.signal import Image  # noqa: E402
from anamorph.core.stage import Growing  # noqa: E402
from anamorph.data.read_options import ReadOptions  # noqa: E402
from anamorph.interop.imported_run import Imported, write_run  # noqa: E402
from anamorph.models.adversarial.stylegan import StyleGANConfig  # noqa: E402
from anamorph.models.autoregressive.pixelcnn import PixelCNNConfig  # noqa: E402
from anamorph.models.autoregressive.pixelsnail import PixelSNAILConfig  # noqa: E402
from anamorph.models.autoregressive.wavenet import WaveNetConfig  # noqa: E402
from anamorph.models.closed_form.gaussian_mixture import GaussianConfig, MixtureConfig  # noqa: E402
from anamorph.nn.wavenet_layers import WaveNetSizes  # noqa: E402
from anamorph.runs import new_settings, open_training  # noqa: E402
from anamorph.studio.saved_session import Session  # noqa: E402
from anamorph.training.autotune import ComputeRequest  # noqa: E402
from anamorph.training.folder import RunFolder  # noqa: E402
from signs import processor, seen, signs  # noqa: E402
from small import CASES, DILATED  # noqa: E402
from sounds import recordings  # noqa: E402

CHOICE = ComputeRequest("cpu", "float32", 1, False)
FIRST, LAST = 32, 64
"""Images seen in the run as it is kept, and when what became of it was noted."""
SOUNDS = ReadOptions(sample_rate=1000, window=40, hop=40, name_pattern="{digit}_{speaker}_{take}")
SMALL_PIXELCNN = PixelCNNConfig(width=6, layers=2, head_channels=6, condition_channels=4)
SMALL_WAVENET = WaveNetConfig(network=DILATED, condition_channels=4)


def wanted_of(case: str) -> ReadOptions:
    size = (8, 16) if case.startswith("style") else (16, 24) if case.startswith("vq") else (6, 4)
    return ReadOptions(size=size, channels=1 if case in ("vae-free", "vqvae-scalar") else 3)


def small_config(case: str) -> Any:
    config = CASES[case].config
    return replace(config, label="speaker", speakers=3) if case == "audio_vqvae" else config


def cases() -> dict[str, dict[str, Any]]:
    """What `new_settings` is told, by the name of the run."""
    growing = Growing((8, 4), (1.0, 0.5), initial_images=24, fade_images=16, stable_images=16)
    found: dict[str, dict[str, Any]] = {}
    for case in CASES:
        name, sounds = CASES[case].model, case.startswith("audio")
        found[case] = {
            "model": name,
            "source": "recordings" if sounds else "shapes",
            "config": small_config(case),
            "wanted": SOUNDS if sounds else wanted_of(case),
            "growing": growing if case in ("stylealae", "stylegan") else None,
        }
    by_class = StyleGANConfig(
        z_dim=3, w_dim=6, mapping_width=4, mapping_layers=2, channel_base=48, channel_max=5, num_classes=3, label="shape"
    )
    found["stylegan-classes"] = {**found["stylegan"], "config": by_class, "growing": None}
    found["alae-mirrored"] = {**found["alae"], "mirror": True, "labels": ("shape",)}

    def prior(name: str, of: str, config: Any, **more: Any) -> dict[str, Any]:
        sounds = of.startswith("audio")
        more |= {} if sounds else {"wanted": ReadOptions(upscale=True)}
        return {"model": name, "source": "recordings" if sounds else "digits", "config": config, "codes_of": of, **more}

    found["gaussian"] = prior("gaussian", "autoencoder", GaussianConfig())
    found["mixture"] = prior("mixture", "autoencoder", MixtureConfig(num_components=2, num_classes=10))
    found["pixelcnn"] = prior("pixelcnn", "vqvae", SMALL_PIXELCNN)
    found["pixelcnn-chain"] = prior("pixelcnn", "vqvae2", replace(SMALL_PIXELCNN, num_classes=10, dropout=0.1))
    snail = PixelSNAILConfig(
        width=8,
        residual_channels=4,
        blocks=2,
        residual_blocks=1,
        attention_max_positions=4,
        attention_heads=2,
        condition_channels=4,
        condition_blocks=1,
        output_blocks=1,
        num_classes=10,
    )
    found["pixelsnail"] = prior("pixelsnail", "vqvae2", (replace(snail, attention_max_positions=400), snail))
    found["pixelcnn-pixels"] = {
        "model": "pixelcnn",
        "source": "shapes",
        "config": SMALL_PIXELCNN,
        "wanted": ReadOptions(size=(6, 4), channels=3),
    }
    found["wavenet"] = prior("wavenet", "audio_vqvae", SMALL_WAVENET)
    found["wavenet-speaker"] = prior("wavenet", "audio_vqvae", replace(SMALL_WAVENET, num_classes=3, label="speaker"))
    normed = WaveNetSizes(
        layers=2,
        dilation_cycle=2,
        residual_channels=4,
        gate_channels=4,
        skip_channels=4,
        head_channels=4,
        scale_sums=False,
        weight_norm=True,
        dropout=0.1,
    )
    found["wavenet-samples"] = {
        "model": "wavenet",
        "source": "recordings",
        "config": WaveNetConfig(network=normed, mixture_components=2),
        "wanted": SOUNDS,
    }
    return found


def train(run: Path, images: int) -> None:
    RunFolder(run).update_config({"images": images})
    with RunFolder(run).locked():
        for _ in open_training(RunFolder(run)).run_to_end():
            pass


def last_tensors(run: Path) -> dict[str, Tensor]:
    found = RunFolder(run).latest()
    assert found is not None
    return found[0]


def thin(run: Path, pictures: bool, best: bool) -> None:
    """Leave only what a run cannot do without."""
    for path in RunFolder(run).checkpoint_files()[1:]:
        path.unlink()
    if not best:
        RunFolder(run).best.unlink(missing_ok=True)
    if not pictures:
        shutil.rmtree(run / "pictures", ignore_errors=True)
    (run / "lock").unlink(missing_ok=True)


def pack(run: Path, out: Path) -> None:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(run.rglob("*")):
            if path.is_file():
                entry = zipfile.ZipInfo(str(path.relative_to(run)), (2026, 11, 27, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                content = path.read_bytes()
                if path.suffix in (".json", ".jsonl"):
                    content = content.replace(str(run.parent).encode(), b"ROOT")
                archive.writestr(entry, content)


def make(root: Path, out: Path) -> None:
    out.mkdir(parents=True)
    os.environ["ANAMORPH_CACHE"] = str(root / "cache")
    os.chdir(root)
    torch.set_num_threads(1)
    recordings(root / "recordings")
    Pillow.new("RGB", (24, 16), (200, 100, 50)).save(root / "image.png")
    found = cases()
    for name, told in found.items():
        run = root / name
        settings = new_settings(
            told.pop("model"), told.pop("source"), FIRST, batch=8, seed=3, pictures=(), compute=CHOICE, **told
        )
        settings.write(RunFolder(run))
        train(run, FIRST)
    extras(root)
    more = imported(root)
    for name in [*found, *more]:
        run = root / name
        thin(run, pictures=name in ("vae", "vqvae"), best=name == "pixelcnn")
        facts: dict[str, Any] = {what: [float(f"{v:.5f}") for v in x.tolist()] for what, x in seen(run).items()}
        if name in found:
            shutil.copytree(run, root / "ahead" / name)
            train(root / "ahead" / name, LAST)
            facts |= {"tensors": signs(last_tensors(root / "ahead" / name))}
        (run / "expected.json").write_text(json.dumps({"processor": processor(), "last": LAST, **facts}))
    for name in [*found, *more]:
        shutil.rmtree(root / name / "codes", ignore_errors=True)
        pack(root / name, out / f"{name}.zip")
    (out / "session.json").write_text(json.dumps(session(), indent=1) + "\n")


def extras(root: Path) -> None:
    """What else lies in run folders: an evaluation, directions; and compressed files, which name their model."""
    vae = str(root / "vae")
    assert main(["evaluate", vae, "--features", "pixels", "--n", "20", "--threads", "1"]) == 0
    assert (
        main(["directions", vae, "--method", "pca", "--k", "2", "--n", "50", "--out", f"{vae}/directions-pca.safetensors"]) == 0
    )
    for run, example in (("pixelcnn", "image.png"), ("wavenet-speaker", "recordings/0_ada_0.wav")):
        words = ["--label", "speaker=ada"] if run == "wavenet-speaker" else []
        assert (
            main(["compress", str(root / run), str(root / example), "--fit", *words, "--out", str(root / run / "file.anam")])
            == 0
        )


def session() -> dict[str, Any]:
    """Points of every kind, as the studio saved them."""
    seed = {"kind": "seed", "seed": 7, "temperature": 0.9, "top_p": 0.8, "labels": [["class", 2]]}
    mean = {"kind": "mean", "of": [seed, {"kind": "data", "index": 3}]}
    moved = {"kind": "move", "of": mean, "along": [{"directions": "pca", "which": 0, "steps": 1.5, "layers": [0, 1]}]}
    mixed = {"kind": "mix", "of": moved, "source": {"kind": "truncate", "of": seed, "psi": 0.7}, "share": 0.25}
    told = {"kind": "told", "of": {"kind": "file", "digest": "0" * 32, "name": "a.png"}, "labels": [["speaker", 1]]}
    painted = {"kind": "paint", "of": seed, "space": "codes", "cells": [{"map": 0, "y": 1, "x": 2, "code": 3}]}
    redrawn = {"kind": "redraw", "of": painted, "places": [[0, 1]], "seed": 2, "temperature": 0.5}
    between = {"kind": "between", "ends": [mixed, {"kind": "codes", "digest": "1" * 32}], "x": 0.25}
    written = {
        "run": "vae",
        "current": between,
        "pins": [{"point": told, "group": "a"}, {"point": redrawn, "group": ""}],
        "groups": [{"name": "mine", "towards": [told], "away": [seed]}],
        "look": {"noise": "fresh", "noise_seed": 5},
        "panel": "edit",
    }
    return Session.model_validate(written).model_dump(mode="json")


def imported(root: Path) -> list[str]:
    """Runs as `anamorph import` writes them, of the nets of the cases."""
    for name, case in (("imported-alae", "stylealae"), ("imported-stylegan", "stylegan"), ("imported-vqvae2", "vqvae2")):
        model, _ = build(
            CASES[case].model, signal := Image(3, 8, 16) if case != "vqvae2" else Image(3, 16, 24), CASES[case].config, 0
        )
        average, _ = build(CASES[case].model, signal, CASES[case].config, 1)
        write_run(Imported(CASES[case].model, signal, CASES[case].config, model, average, int(case == "stylegan")), root / name)
    return ["imported-alae", "imported-stylegan", "imported-vqvae2"]


if __name__ == "__main__":
    import tempfile

    shutil.rmtree(HERE / "format_1", ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), HERE / "format_1")
