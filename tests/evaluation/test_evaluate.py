"""Runs evaluated: every measure that a model can have, each image decoded once, what was found is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.files import read_json
from anamorph.core.model import LatentModel
from anamorph.core.signal import Image
from anamorph.data.images import Images, InMemory
from anamorph.evaluation import feature_cache
from anamorph.evaluation.evaluate import evaluate, select_steps
from anamorph.evaluation.evaluated_run import EvaluatedRun, evaluated_run, evaluation_data, open_for_evaluation
from anamorph.evaluation.networks import FeatureNetworks, choose_networks, known_networks, train_network
from anamorph.evaluation.record import Record
from anamorph.evaluation.report import plain_table, write_report
from anamorph.features.network import ClassifierNetwork
from anamorph.models.adversarial_autoencoders.alae import ALAEConfig
from anamorph.models.adversarial_autoencoders.stylealae import StyleALAEConfig
from anamorph.models.autoencoders.autoencoder import AutoencoderConfig
from anamorph.models.autoencoders.vae import VAEConfig
from anamorph.models.autoregressive.pixelcnn import PixelCNNConfig
from anamorph.models.quantized.vqvae import VQVAEConfig
from anamorph.runs import settings_of
from anamorph.training.folder import RunFolder
from trained import trained

N = 90
CONFIGS: dict[str, Any] = {
    "alae": ALAEConfig(width=16, w_dim=5, z_dim=3, mapping_layers=2),
    "autoencoder": AutoencoderConfig(z_dim=5, width=16),
    "stylealae": StyleALAEConfig(w_dim=6, channel_base=48, channel_max=5),
    "vae": VAEConfig(z_dim=5, widths=(16,), likelihood="gaussian"),
    "vqvae": VQVAEConfig(
        width=6, residual_blocks=1, residual_channels=5, num_embeddings=11, embedding_dim=3, likelihood="logistic", stride=2
    ),
}


class Seer(ClassifierNetwork):
    """Sees eight means of an image's parts, and whether it is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.resizer, self.width = "seer", "none", 8

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(x.mean(1, keepdim=True), (2, 4)).flatten(1)

    def probabilities(self, x: Tensor) -> dict[str, Tensor]:
        bright = torch.sigmoid(4 * x.flatten(1).mean(1))
        return {"class": torch.stack([1 - bright, bright], 1)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run of each kind on digits of 8x8."""
    root = tmp_path_factory.mktemp("runs")
    for name, config in CONFIGS.items():
        trained(root / name, name, 128, config)
    prior = PixelCNNConfig(width=8, layers=1, head_channels=8)
    trained(root / "prior", "pixelcnn", 64, prior, codes_of=str(root / "vqvae"))
    return root


def subject(run: Path, n: int = N, source: str | None = None) -> EvaluatedRun:
    model, data = open_for_evaluation(run, source, n)
    return evaluated_run(run, data, FeatureNetworks.same(Seer()), n, model=model)


EXPECTED = {
    "alae": {"fid", "recall", "ppl_w_full", "ppl_z_full", "latent_error", "1nn_accuracy", "straightness"},
    "autoencoder": {"reconstruction_mse", "fid_of_reconstructions", "feature_distance", "svm_accuracy", "evenness"},
    "stylealae": {"fid", "ppl_w_full", "ppl_z_full", "latent_error_relative", "copies", "diversity"},
    "vae": {"elbo_nats", "elbo_kl", "iwae_100_nats", "active_units", "ppl_z_full", "separability", "inception_score"},
    "vqvae": {"codes_used", "perplexity", "reconstruction_psnr"},
    "prior": {"codes_found", "nats_bound", "bits_per_value_bound_prior", "nats_per_code_cost", "kid"},
}
NEVER = {
    "alae": "elbo_nats",
    "autoencoder": "fid",
    "stylealae": "perplexity",
    "vae": "mig",
    "vqvae": "1nn_accuracy",
    "prior": "ppl_w_full",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_measured_follows_from_what_a_model_can(name: str, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anamorph.evaluation.latent_steps.PAIRS", 20)
    record, looks = evaluate(subject(runs / name))
    found = {measure.name: measure for _, measure, _ in record.measures()}
    assert EXPECTED[name] <= found.keys()
    assert NEVER[name] not in found
    assert all(np.isfinite(measure.value) for measure in found.values())
    assert set(record.left()) >= ({"fid"} if name == "autoencoder" else set())
    assert "FID [seer]" in plain_table(record) or name in ("autoencoder", "vqvae")
    page = write_report(record, looks).read_text()
    assert "http" not in page.replace("http://www.w3.org", "")  # nothing from elsewhere
    assert "data:image/webp;base64," in page


def test_every_image_is_decoded_once_and_an_interrupted_evaluation_goes_on(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "PART", 32)
    this = subject(runs / "alae", 100)
    decoded: list[int] = []
    count(this.model, decoded, monkeypatch)

    def broken(looks: object, start: int, count: int) -> object:
        if start >= 64:
            raise KeyboardInterrupt
        return whole(looks, start, count)

    whole: Callable[..., feature_cache.CacheEntry] = feature_cache.FeatureCache._sample
    monkeypatch.setattr(feature_cache.FeatureCache, "_sample", broken)
    steps = select_steps(["samples", "errors", "reciprocity"])
    with pytest.raises(KeyboardInterrupt):
        evaluate(this, steps)
    assert sum(decoded) == 64
    monkeypatch.setattr(feature_cache.FeatureCache, "_sample", whole)
    record, _ = evaluate(this, steps)
    assert sum(decoded) == 200  # 100 samples, 100 reconstructions
    evaluate(this, steps)
    assert sum(decoded) == 200
    assert read_json(record.path)["latest"] == this.key


def count(model: LatentModel, decoded: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    decode = model.decode

    def counted(codes: Any, noise: Any = "fixed") -> Tensor:
        x = decode(codes, noise)
        decoded.append(len(x))
        return x

    monkeypatch.setattr(model, "decode", counted)


def test_results_are_the_same_when_they_are_read_again(runs: Path) -> None:
    this = subject(runs / "autoencoder")
    steps = select_steps(["errors"])
    first, _ = evaluate(this, steps)
    again = Record(this)
    assert [(m, d) for _, m, d in first.measures()] == [(m, d) for _, m, d in again.measures()]
    values = torch.tensor(again.curve("errors", "reconstruction_mse"))
    assert len(values) == N
    mse = next(m for _, m, _ in again.measures() if m.name == "reconstruction_mse")
    assert mse.value == pytest.approx(float(values.mean()), rel=1e-4)
    assert mse.n == {"held-out images": N}


def test_a_run_that_goes_on_is_measured_anew(tmp_path: Path) -> None:
    trained(tmp_path, "autoencoder", 64, CONFIGS["autoencoder"])
    first, _ = evaluate(subject(tmp_path), select_steps(["errors"]))
    trained(tmp_path, "autoencoder", 128, CONFIGS["autoencoder"])
    this = subject(tmp_path)
    assert this.images == 128
    second, _ = evaluate(this, select_steps(["errors"]))
    assert first.key != second.key
    assert list(read_json(second.path)["entries"]) == [second.key]


def test_what_cannot_be_measured_says_why(runs: Path) -> None:
    few = subject(runs / "alae", 8)
    record, _ = evaluate(few, select_steps(["fid", "memorisation"]))
    assert "8 images are too few for a FID over 8 features: at least 9" in record.left()["fid"]
    assert "at least 20 are needed" in record.left()["memorisation"]
    with pytest.raises(UserError, match="no measure 'fidd': did you mean 'fid'"):
        select_steps(["fidd"])
    with pytest.raises(UserError, match="at least 2 images"):
        subject(runs / "alae", 1)


def test_features_that_are_not_finite_or_all_alike_are_refused_and_the_rest_is_measured(runs: Path) -> None:
    class Blind(Seer):
        def forward(self, x: Tensor) -> Tensor:
            return torch.full((len(x), 8), self.value)

        value = 1.0

    for value, message in ((1.0, "are the same"), (float("nan"), "not finite")):
        model, data = open_for_evaluation(runs / "alae", None, N)
        blind = Blind()
        blind.value, blind.name = value, f"blind {value}"
        this = evaluated_run(runs / "alae", data, FeatureNetworks.same(blind), N, model=model)
        record, _ = evaluate(this, select_steps(["fid", "errors"]))
        assert message in record.left()["fid"]
        assert any(m.name == "reconstruction_mse" for _, m, _ in record.measures())


def test_labels_that_are_missing_or_of_one_class_leave_out_what_needs_them(runs: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    np.save(tmp_path / "plain.npy", generator.integers(0, 255, (200, 8, 8), dtype=np.uint8))
    this = subject(runs / "alae", 15, str(tmp_path / "plain.npy"))
    assert "200" not in this.data.split
    record, _ = evaluate(this, select_steps(["probes", "factors"]))
    assert "no labels of two classes" in record.left()["probes"]
    assert "fewer than two factors" in record.left()["factors"]


def test_known_factors_are_measured(tmp_path: Path) -> None:
    trained(tmp_path, "autoencoder", 64, AutoencoderConfig(z_dim=4, width=8), "shapes", (8, 8))
    record, _ = evaluate(subject(tmp_path, 400), select_steps(["known-factors"]))
    found = {measure.name: measure for _, measure, _ in record.measures()}
    assert {"mig", "sap", "dci_disentanglement", "factor_vae"} == found.keys() - {"dci_completeness", "dci_informativeness"}
    assert "shape scale angle x y colour" in found["mig"].protocol


def test_every_label_is_probed_but_one_of_a_single_class(tmp_path: Path) -> None:
    trained(tmp_path, "autoencoder", 64, AutoencoderConfig(z_dim=4, width=8), "shapes", (8, 8))
    record, looks = evaluate(subject(tmp_path, 60), select_steps(["probes"]))
    found = {measure.name: measure for _, measure, _ in record.measures()}
    labels = ("shape", "scale", "angle", "x", "y", "colour")
    assert found.keys() == {f"{probe}_accuracy_{label}" for probe in ("1nn", "5nn", "svm", "logistic") for label in labels}
    assert "1-NN probe, colour" in plain_table(record)
    looks.encoded["label.scale"].fill_(2)
    (step,) = select_steps(["probes"])
    alone = step.run(looks)
    assert {measure.name for measure in alone.measures} == found.keys() - {
        f"{probe}_accuracy_scale" for probe in ("1nn", "5nn", "svm", "logistic")
    }
    assert alone.notes == ("no probes of scale: all encoded images are of one class",)


def test_a_growing_model_is_held_against_images_of_its_level(runs: Path) -> None:
    settings = settings_of(RunFolder(runs / "autoencoder"))
    data = evaluation_data(settings, None, 20, level=1)
    assert data.held_out.signal == Image(1, 4, 4)
    assert data.held_out.take(0, 3).signals.shape == (3, 1, 4, 4)
    assert "4x4" in data.split
    with pytest.raises(UserError, match="read them alike"):
        evaluated_run(runs / "autoencoder", data, FeatureNetworks.same(Seer()), 20)


def test_the_network_of_a_source_is_trained_once_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anamorph.evaluation.networks.SUPERVISED", 256)
    monkeypatch.setattr("anamorph.evaluation.networks.CONTRASTIVE", 64)
    generator = np.random.default_rng(0)
    pixels = InMemory(generator.integers(0, 255, (64, 1, 8, 8), dtype=np.uint8))
    plain = Images("a/plain set", pixels, np.arange(64))
    eyes = choose_networks("auto", plain, plain)
    assert eyes.samples.name == "plain-set-contrastive"
    monkeypatch.setattr("anamorph.evaluation.networks.train_network", None)
    assert choose_networks("auto", plain, plain).samples.fingerprint == eyes.samples.fingerprint
    assert len(known_networks()) == 1
    assert choose_networks("pixels", plain, plain).samples.name == "pixels"
    with pytest.raises(UserError, match="no feature network 'pixls': did you mean 'pixels'"):
        choose_networks("pixls", plain, plain)
    with pytest.raises(UserError, match="cannot be called"):
        train_network(plain, plain, "auto")


def test_costs_of_real_and_of_whole_codes_never_share_a_row(runs: Path) -> None:
    record, _ = evaluate(subject(runs / "prior"), select_steps(["code_cost", "reciprocity"]))
    found = {measure.name: measure for _, measure, _ in record.measures()}
    assert found["nats_per_code_cost"].settings["codes"] == found["codes_found"].settings["codes"] == "16 of 11"
    record, _ = evaluate(subject(runs / "alae"), select_steps(["reciprocity"]))
    assert next(m for _, m, _ in record.measures() if m.name == "latent_error").settings == {"numbers": 5}


def test_the_key_names_all_that_decides_a_number(runs: Path) -> None:
    this = subject(runs / "alae")
    others = [dataclasses.replace(this, n=N + 1), dataclasses.replace(this, seed=1), dataclasses.replace(this, weights="other")]
    assert len({this.key, *(other.key for other in others)}) == 4


def test_the_data_are_looked_at_once_for_all_runs(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = select_steps(["fid", "inception_score", "memorisation"])
    evaluate(subject(runs / "alae", 64), steps)
    seen: list[int] = []
    look = Seer.forward

    def counted(network: Seer, x: Tensor) -> Tensor:
        seen.append(len(x))
        return look(network, x)

    monkeypatch.setattr(Seer, "forward", counted)
    evaluate(subject(runs / "vae", 64), steps)
    assert sum(seen) == 64  # its samples, and nothing else


def test_a_damaged_part_is_taken_again(runs: Path) -> None:
    this = subject(runs / "autoencoder", 40)
    steps = select_steps(["errors"])
    first, looks = evaluate(this, steps)
    wanted = first.curve("errors", "reconstruction_mse")
    part = next(looks.folder.glob("reconstructions-*"))
    part.write_bytes(part.read_bytes()[:100])
    first.path.unlink()
    again, _ = evaluate(this, steps)
    assert again.curve("errors", "reconstruction_mse") == wanted
