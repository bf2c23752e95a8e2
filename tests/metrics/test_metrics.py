from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from anamorph.core.errors import UserError
from anamorph.core.model import Encodes, Samples
from anamorph.core.random import Seeded
from anamorph.metrics.probes import linear_svm_accuracy, logistic_accuracy, nearest_neighbour_accuracy, neighbours_accuracy
from anamorph.metrics.reconstruction import latent_error, reconstruction_error
from small import batch, images, make_run


def blobs(n: int, seed: int, spread: float = 1.2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, 3, (n,), generator=generator)
    return torch.eye(3, 5)[classes] * 3 + spread * torch.randn(n, 5, generator=generator), classes


def test_probes_are_scikit_learns() -> None:
    (x, y), (test_x, test_y) = blobs(300, 0), blobs(2500, 1)
    oracle = KNeighborsClassifier(1).fit(x.numpy(), y.numpy())
    assert nearest_neighbour_accuracy(x, y, test_x, test_y) == pytest.approx(oracle.score(test_x.numpy(), test_y.numpy()))
    machine = LinearSVC(C=0.02, max_iter=5000, random_state=0).fit(x.double().numpy(), y.numpy())
    wanted = machine.score(test_x.double().numpy(), test_y.numpy())
    assert linear_svm_accuracy(x, y, test_x, test_y) == pytest.approx(wanted)
    assert 0.5 < wanted < 1


def test_more_probes_are_scikit_learns() -> None:
    (x, y), (test_x, test_y) = blobs(300, 0), blobs(2500, 1)
    found = neighbours_accuracy(x, y, test_x, test_y, 7)
    oracle = KNeighborsClassifier(7).fit(x.numpy(), y.numpy())
    assert found == pytest.approx(oracle.score(test_x.numpy(), test_y.numpy()))
    assert neighbours_accuracy(x, y, test_x, test_y, 1) == nearest_neighbour_accuracy(x, y, test_x, test_y) < found
    steps = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x.numpy(), y.numpy())
    wanted = steps.score(test_x.numpy(), test_y.numpy())
    assert logistic_accuracy(1000 * x + 5, y, 1000 * test_x + 5, test_y) == pytest.approx(wanted, abs=2e-3)
    with pytest.raises(UserError, match="wanted 1 to 300"):
        neighbours_accuracy(x, y, test_x, test_y, 301)


def test_a_code_is_its_own_nearest_neighbour() -> None:
    x, y = blobs(200, 0)
    assert nearest_neighbour_accuracy(x, y, x, y) == 1.0


def test_probes_refuse_what_tells_nothing() -> None:
    x, y = blobs(20, 0)
    with pytest.raises(UserError, match="two classes"):
        nearest_neighbour_accuracy(x, torch.zeros(20), x, y)
    with pytest.raises(UserError, match="not finite"):
        linear_svm_accuracy(x * float("nan"), y, x, y)
    with pytest.raises(UserError, match="20 and 20 codes, but 20 and 5 classes"):
        nearest_neighbour_accuracy(x, y, x, y[:5])


def test_reconstruction_error_is_the_mean_square() -> None:
    model = make_run("autoencoder").model
    assert isinstance(model, Encodes)
    x = images().in_order().take(0, 37).signals
    with torch.no_grad():
        wanted = float((model.decode(model.encode(x)).clamp(-1, 1) - x).square().mean())
    found = reconstruction_error(model, images().in_order(), 37)
    assert found["reconstruction_mse"] == pytest.approx(wanted, rel=1e-5)
    assert found["reconstruction_psnr_db"] == pytest.approx(10 * torch.tensor(4 / wanted).log10().item(), rel=1e-5)


def test_latent_error_is_the_mean_distance() -> None:
    model = make_run("alae").model
    assert isinstance(model, Encodes)
    assert isinstance(model, Samples)
    with torch.no_grad():
        w = model.sample_codes(50, Seeded(0, "x"))["w"]
        wanted = (model.encode(model.decode({"w": w}))["w"] - w).norm(dim=1).mean()
    found = latent_error(model, 50, Seeded(0, "x"))
    assert found["latent_error"] == pytest.approx(float(wanted), rel=1e-4)
    spread = (w - w.mean(0)).norm(dim=1).mean()
    assert found["latent_error_relative"] == pytest.approx(float(wanted / spread), rel=1e-4)


def test_measures_name_the_capability_that_is_missing() -> None:
    with pytest.raises(UserError, match="a reconstruction error needs a model that encodes; GAN only samples"):
        reconstruction_error(make_run("gan").model, images(), 8)
    with pytest.raises(UserError, match="a latent error needs a model that samples; Autoencoder only encodes"):
        latent_error(make_run("autoencoder").model, 8, Seeded(0, "x"))
    assert batch(2).signals.shape[0] == 2
