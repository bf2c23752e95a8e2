"""The study of known factors: its classifier, its measures, and the whole of it, small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from anamorph.core.errors import UserError
from anamorph.core.files import read_json
from anamorph.core.stage import Growing
from anamorph.data.images import images_of
from anamorph.data.open import ReadOptions, open_source
from anamorph.metrics.factors import FactorClassifier, accuracy, agreement, effective_classes, train_factor_classifier
from anamorph.models.adversarial.stylegan import StyleGANConfig
from anamorph.models.adversarial_autoencoders.stylealae import StyleALAEConfig
from anamorph.models.autoencoders.autoencoder import AutoencoderConfig
from anamorph.models.autoencoders.vae import VAEConfig
from anamorph.training.autotune import ComputeRequest
from experiments import cat_directions, cats
from experiments.cats import STUDIES, Contestant, Study, factor_study

HERE = ComputeRequest("cpu", "float32", 1, False)


def test_a_reader_learns_the_factors_of_shapes() -> None:
    train, held = (images_of(open_source("shapes", ReadOptions((16, 16)), split=split)) for split in ("train", "test"))
    before = torch.get_rng_state()
    reader = train_factor_classifier(train, images=12_800)
    assert torch.equal(torch.get_rng_state(), before)
    assert reader is not None
    assert train_factor_classifier(train, images=12_800, stop=lambda: True) is None
    found = accuracy(reader, held, 500)
    assert set(found) == {label.name for label in train.labels if label.classes}
    assert min(found.values()) > 0.5
    assert max(found.values()) > 0.95
    again = train_factor_classifier(train, images=64)
    other = train_factor_classifier(train, images=64)
    assert again is not None
    assert other is not None
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), other.parameters(), strict=True))


def test_measures_by_hand() -> None:
    read = {"a": torch.tensor([0, 1, 2, 2]), "b": torch.tensor([5, 5, 5, 5])}
    assert agreement(read, {"a": torch.tensor([0, 1, 2, 0]), "b": torch.zeros(4)}) == {"a": 0.75, "b": 0.0}
    spread = effective_classes({"a": torch.arange(8), "b": torch.ones(8, dtype=torch.int64), "c": torch.arange(8) % 2})
    assert spread == pytest.approx({"a": 8.0, "b": 1.0, "c": 2.0})


def test_without_labels_there_is_nothing_to_read() -> None:
    image = images_of(open_source("shapes", ReadOptions((16, 16)))).signal
    with pytest.raises(UserError, match="no labels"):
        FactorClassifier(image, {})


SMALL = Study(
    {
        "stylealae": Contestant(
            "stylealae", StyleALAEConfig(w_dim=8, channel_base=64, channel_max=8), Growing((16, 16), (1.0, 1.0), 64, 32, 96)
        ),
        "no encoder at all": Contestant("autoencoder", AutoencoderConfig(z_dim=4, width=16)),
    },
    images=256,
    source="shapes",
    size=8,
    reader=640,
    n=40,
    refined=3,
)


def test_a_study_runs_is_resumed_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cats, "PROJECTION", 2)
    told: list[str] = []
    assert not factor_study(SMALL, tmp_path, HERE, told.append, stop=lambda: True)
    assert factor_study(SMALL, tmp_path, HERE, told.append)
    facts = read_json(tmp_path / "results.json")
    assert [row["name"] for row in facts["rows"]] == list(SMALL.contestants)
    first = facts["rows"][0]["measured"]
    assert [m["images"] for m in first] == sorted({m["images"] for m in first})
    assert first[-1]["images"] >= 256
    for measured in first:
        assert all(0 <= share <= 1 for share in measured["kept"].values())
        assert all(1 <= n <= 40 for n in measured["spread"].values())
    assert "spread" not in facts["rows"][1]["measured"][-1]  # an autoencoder draws nothing
    assert {"chance", "read", "spread", "classes"} == set(next(iter(facts["factors"].values())))
    assert [set(row["refined"]) for row in facts["rows"]] == [{"w", "w+"}, set()]
    text = (tmp_path / "results.md").read_text()
    assert "stylealae, projected into w+" in text
    assert "| **kept** by stylealae | 2" in text
    for name in ("cats.png", "kept.png"):
        assert (tmp_path / name).stat().st_size > 1000
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert factor_study(SMALL, tmp_path, HERE, told.append)
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    other = replace(SMALL, contestants={"stylealae": SMALL.contestants["no encoder at all"]})
    with pytest.raises(UserError, match="other settings"):
        factor_study(other, tmp_path, HERE, told.append)


def test_directions_for_known_factors_are_found_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cat_directions, "READ_WELL", 0.0)
    monkeypatch.setattr(cat_directions, "CODES", 300)
    monkeypatch.setattr(cat_directions, "PROJECTION", 3)
    small = Study(
        {
            "vae": Contestant("vae", VAEConfig(z_dim=6, widths=(32,))),
            "stylegan": Contestant(
                "stylegan", StyleGANConfig(w_dim=8, z_dim=8, mapping_width=8, channel_base=64, channel_max=8)
            ),
        },
        images=128,
        source="shapes",
        size=8,
        reader=1280,
        n=100,
    )
    told: list[str] = []
    assert not cat_directions.direction_study(small, tmp_path, HERE, told.append, stop=lambda: True)
    assert cat_directions.direction_study(small, tmp_path, HERE, told.append)
    facts = read_json(tmp_path / "directions.json")
    assert list(facts) == ["vae", "stylegan"]
    for row in facts.values():
        for factor, found in row["factors"].items():
            assert 0 <= found["became"] <= 1
            assert found["became"] <= found["changed"][factor]
            assert (found["steps"] in cat_directions.STEPS) == (found["classes"] > 0)
    assert max(found["classes"] for found in facts["vae"]["factors"].values()) > 1
    assert (tmp_path / "directions.png").stat().st_size > 1000
    assert "**became** the class meant" in (tmp_path / "directions.md").read_text()
    told.clear()
    assert cat_directions.direction_study(small, tmp_path, HERE, told.append)
    assert not any("looking" in text for text in told)


def test_the_named_studies_are_what_they_say() -> None:
    study, ablation = STUDIES["cats"], STUDIES["alae-ablation"]
    assert set(study.contestants) == {"stylealae", "stylegan", "autoencoder"}
    full, *ablated = (c.config for c in ablation.contestants.values())
    assert [
        {f: getattr(c, f) for f in ("w_from", "critic_input", "regression") if getattr(c, f) != getattr(full, f)}
        for c in ablated
    ] == [{"w_from": "features"}, {"critic_input": "images"}, {"regression": "z"}]
    assert all(c.growing and c.growing.at(ablation.images).level == 0 for c in ablation.contestants.values())
