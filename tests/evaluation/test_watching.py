"""Runs measured while they are trained; the best checkpoint is kept by a chosen measure, and commands say so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.model import LatentModel
from anamorph.evaluation import validation as watching
from anamorph.evaluation.networks import FeatureNetworks
from anamorph.evaluation.validation import check_best, validator_for
from anamorph.features.network import FeatureNetwork
from anamorph.models.adversarial_autoencoders.alae import ALAEConfig
from anamorph.models.autoencoders.autoencoder import AutoencoderConfig
from anamorph.runs import Settings, Training, load, new_settings, open_training, settings_of
from anamorph.training.folder import RunFolder
from anamorph.training.session import Validator
from trained import HERE

AUTOENCODER = AutoencoderConfig(z_dim=5, width=16)


class Rows(FeatureNetwork):
    """Sees the means of an image's rows."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.resizer, self.width = "rows", "none", 8

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((1, 3))


def started(path: Path, model: str, config: object, images: int = 256, every: int | None = 64, best: str = "") -> Training:
    folder = RunFolder(path)
    if not folder.exists:
        settings = new_settings(model, "digits", images, config=config, batch=32, compute=HERE, pictures=())
        replace(settings, evaluate_every=every, best_metric=best).write(folder)
    return open_training(folder)


@pytest.fixture(autouse=True)
def _eyes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "choose_networks", lambda *_: FeatureNetworks.same(Rows()))


def test_a_run_is_measured_at_the_interval_that_was_asked_for(tmp_path: Path) -> None:
    training = started(tmp_path, "alae", ALAEConfig(width=16, w_dim=5, z_dim=3))
    watch = validator_for(training)
    assert watch is not None
    assert (watch.interval, watch.metric, watch.better) == (64, "fid/rows", "low")
    for _ in training.run_to_end(validator=watch):
        pass
    lines = {line["images"]: line for line in training.folder.metrics()}
    measured = [images for images, line in lines.items() if "fid/rows" in line]
    assert measured == [64, 128, 192, 256]
    assert {"kid/rows", "precision/rows", "recall/rows", "reconstruction_mse/held out", "feature_distance/rows"} <= lines[
        64
    ].keys()
    best = min(measured, key=lambda images: float(lines[images]["fid/rows"]))
    assert training.folder.checkpoint_in_use()["images"] == best
    assert training.folder.checkpoint_in_use()["which"] == "best by fid/rows"


def test_the_best_is_kept_also_when_training_was_stopped_in_between(tmp_path: Path) -> None:
    values = {64: 3.0, 128: 1.0, 192: 2.0, 256: 1.5}
    stop_at = [160]

    def run(total: int) -> RunFolder:
        training = started(tmp_path, "autoencoder", AUTOENCODER)
        seen = [training.run.images]

        def take(model: LatentModel) -> dict[str, float]:
            return {"score/x": values[training.run.images]}

        for status in training.run_to_end(lambda: seen[0] >= total, Validator(64, take, "score/x", "low")):
            seen[0] = status.images
        return training.folder

    assert run(stop_at[0]).checkpoint_in_use()["images"] == 128
    assert run(10_000).checkpoint_in_use()["images"] == 128
    assert load(tmp_path) is not None
    newest = load(tmp_path, images=256).state_dict()
    assert any(not torch.equal(value, newest[name]) for name, value in load(tmp_path).state_dict().items())


def test_measuring_changes_nothing_of_the_training(tmp_path: Path) -> None:
    for name, every in (("watched", 64), ("plain", None)):
        training = started(tmp_path / name, "autoencoder", AUTOENCODER, every=every)
        for _ in training.run_to_end(validator=validator_for(training)):
            pass
    a, b = (load(tmp_path / name, images=256).state_dict() for name in ("watched", "plain"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not RunFolder(tmp_path / "plain").best.exists()


def test_without_a_best_the_newest_is_used_and_said_so(tmp_path: Path) -> None:
    training = started(tmp_path, "autoencoder", AUTOENCODER, every=None)
    with pytest.raises(UserError, match="no checkpoint yet"):
        training.folder.checkpoint_in_use()
    for _ in training.run_to_end():
        pass
    assert training.folder.checkpoint_in_use()["which"] == "newest"
    assert training.folder.checkpoint_in_use()["images"] == 256


def test_a_best_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'fid'"):
        check_best("fidd")
    with pytest.raises(UserError, match="draws nothing"):
        validator_for(started(tmp_path, "autoencoder", AUTOENCODER, best="recall"))
    settings: Settings = settings_of(RunFolder(tmp_path))
    with pytest.raises(UserError, match="evaluate-every must be at least 1"):
        replace(settings, evaluate_every=0)
