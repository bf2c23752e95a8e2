"""Experiments run from end to end, small; and go on where they were stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anamorph import demo
from anamorph.cli.main import main
from anamorph.core.errors import UserError
from anamorph.core.files import read_json
from anamorph.models.adversarial_autoencoders.alae import ALAEConfig
from anamorph.models.autoencoders.autoencoder import AutoencoderConfig
from anamorph.models.autoencoders.vae import VAEConfig
from anamorph.models.autoregressive.pixelcnn import PixelCNNConfig
from anamorph.models.quantized.vqvae import VQVAEConfig
from anamorph.models.quantized.vqvae2 import VQVAE2Config
from anamorph.nn.pixel_likelihood import LikelihoodConfig
from anamorph.runs import new_settings
from anamorph.training.autotune import ComputeRequest
from anamorph.training.folder import RunFolder
from experiments import likelihoods, mnist_probes
from experiments.tokens import Stage, Tokens, token_study

HERE = ComputeRequest("cpu", "float32", 1, False)


def test_the_demonstration_trains_shows_and_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "IMAGES", 512)
    monkeypatch.setattr(demo, "CONFIG", ALAEConfig(width=16))
    folder = RunFolder(tmp_path)
    assert [s.images for s in demo.train_demo(folder)][-1] == 512
    assert list(demo.train_demo(folder)) == []
    shown = demo.show_demo(folder)
    assert all(path.stat().st_size > 500 for path in shown.pictures)
    assert len(shown.table) == 4
    assert shown.table["1-NN accuracy on held-out digits"][1] == "99.0%"
    assert main(["demo", "--out", str(tmp_path)]) == 0  # already trained: shown again
    other = RunFolder(tmp_path / "other")
    new_settings("alae", "digits", 512, config=ALAEConfig(width=8), compute=HERE).write(other)
    with pytest.raises(UserError, match="not the demo's"):
        next(demo.train_demo(other))


def test_the_probes_of_mnist_fill_their_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    for part, n in (("train", 300), ("t10k", 100)):
        classes = generator.integers(0, 10, n).astype(np.uint8)
        images = (generator.integers(0, 60, (n, 6, 6)) + 19 * classes[:, None, None]).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", classes)):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(int(s).to_bytes(4, "big") for s in array.shape)
            path = tmp_path / "data" / "mnist" / f"{part}-{kind}-ubyte.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            import gzip

            path.write_bytes(gzip.compress(header + array.tobytes()))
    monkeypatch.setenv("ANAMORPH_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(mnist_probes, "SEEDS", (0, 1))
    configs = {
        "alae": ALAEConfig(width=16, w_dim=5),
        "vae": VAEConfig(widths=(16, 16), z_dim=5),
        "autoencoder": AutoencoderConfig(width=16, z_dim=5),
    }
    monkeypatch.setattr(mnist_probes, "CONFIGS", configs)
    told: list[str] = []
    mnist_probes.mnist_probes(tmp_path / "out", HERE, told.append, images=600)
    rows = read_json(tmp_path / "out" / "results.json")
    assert [(row["model"], row["seed"]) for row in rows] == [(m, s) for s in (0, 1) for m in configs]
    assert all(0 < row[weights][m] <= 1 for row in rows for weights in ("raw", "average") for m in mnist_probes.MEASURES)
    assert all(row["images"] >= 600 and row["cpu_seconds"] > 0 for row in rows)
    text = (tmp_path / "out" / "results.md").read_text()
    assert "| alae | published (from memory of the paper) | 24,000,000 | 93.79 |" in text
    assert f"| alae | raw | {rows[0]['images']:,} |" in text
    assert "±" in text
    before = (tmp_path / "out" / "alae-0" / "probes.json").stat().st_mtime_ns
    mnist_probes.mnist_probes(tmp_path / "out", HERE, told.append, images=600)
    assert (tmp_path / "out" / "alae-0" / "probes.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="not of 900: choose another"):
        mnist_probes.mnist_probes(tmp_path / "out", HERE, told.append, images=900)
    assert not mnist_probes.mnist_probes(tmp_path / "stopped", HERE, told.append, images=600, stop=lambda: True)
    assert RunFolder(tmp_path / "stopped" / "alae-0").images_seen() > 0


def test_a_study_of_codes_trains_both_stages_and_measures(tmp_path: Path) -> None:
    small: Any = {"width": 8, "layers": 2, "head_channels": 8}
    narrow: Any = {
        "width": 8,
        "residual_channels": 4,
        "num_embeddings": 8,
        "embedding_dim": 4,
        "residual_blocks": 1,
        "stride": 2,
    }
    for name, first, prior in (
        (
            "flat",
            Stage("vqvae", VQVAEConfig(**narrow, likelihood="logistic"), 64, 16),
            PixelCNNConfig(width=8, layers=2, head_channels=8),
        ),
        ("deep", Stage("vqvae2", VQVAE2Config(**narrow), 64, 16), PixelCNNConfig(**small, condition_channels=4)),
    ):
        study = Tokens("digits", first, Stage("pixelcnn", prior, 64, 16))
        said: list[str] = []
        assert token_study(study, tmp_path / name, HERE, said.append)
        facts = read_json(tmp_path / name / "results.json")
        total, data, codes = (facts[f"held out: bits_per_value{part}_bound"] for part in ("", "_data", "_prior"))
        assert total == pytest.approx(data + codes, abs=2e-3)
        assert 0 < facts["prior: nats per code, held out"] < 2.5  # of 8 codes: log 8 is 2.08
        assert (tmp_path / name / "tokens.png").stat().st_size > 500
        assert token_study(study, tmp_path / name, HERE, said.append)
    assert not token_study(replace(study, first=replace(study.first, images=640)), tmp_path / "new", HERE, print, lambda: True)


def test_likelihood_experiments_fill_their_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihoods, "MEASURED", 100)
    monkeypatch.setattr(likelihoods, "WEIGHTS", 20)
    monkeypatch.setattr(likelihoods, "SOURCE", "digits")
    law: Any = {"likelihood": "pixelcnn", "likelihood_config": LikelihoodConfig(condition_channels=3, width=4, layers=2)}
    stages = {
        "vae": Stage("vae", VAEConfig(z_dim=4, widths=(16,), **law), 32, 16),
        "vqvae": Stage("vqvae", VQVAEConfig(width=8, num_embeddings=8, embedding_dim=4, stride=2, **law), 32, 16),
    }
    monkeypatch.setattr(likelihoods, "COLLAPSE", stages)
    monkeypatch.setattr(
        likelihoods, "BINARY", Stage("vae", VAEConfig(z_dim=4, widths=(16,), binarise=True, kl_warmup=20), 64, 16)
    )
    assert likelihoods.vae_mnist(tmp_path / "vae", HERE, print)
    facts = read_json(tmp_path / "vae/results.json")
    assert facts["elbo_nats"] < facts["iwae_20_nats"] < 0
    assert likelihoods.collapse(tmp_path / "collapse", HERE, print)
    assert {"vae: active units", "vqvae: codes in use"} < set(read_json(tmp_path / "collapse/results.json"))
    assert all((tmp_path / "collapse" / name).stat().st_size > 500 for name in ("usage.png", "collapse.png"))
