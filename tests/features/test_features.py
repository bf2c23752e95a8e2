"""Small feature networks: what they see, how they learn, files, and streams in which nothing is looked at twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.model import UnsupportedOperation
from anamorph.core.random import Seeded
from anamorph.core.signal import Batch, Image, Label
from anamorph.data.images import Images, InMemory, images_of
from anamorph.data.open import open_source
from anamorph.features.batches import features_of, features_of_source, quantise_8bit, reconstructed, sampled
from anamorph.features.compact import CompactClassifier, CompactNetwork
from anamorph.features.learn import accuracy, contrast, train_classifier, train_contrastive, views
from anamorph.features.network import FeatureNetwork, image_distance
from anamorph.features.network_files import read_network, write_network
from anamorph.features.pixels import PrincipalPixels, RawPixels, fit_principal, network_image
from small import images, make_run


def digits() -> Images:
    return images_of(open_source("digits", split="train"))


def test_pixels_are_themselves_and_large_ones_are_seen_smaller() -> None:
    x = torch.rand(3, 2, 6, 4) * 2 - 1
    network = RawPixels(Image(2, 6, 4))
    assert torch.equal(network(x), x.flatten(1))
    assert (network.name, network.width) == ("pixels", 48)
    assert network_image(Image(3, 64, 128)) == Image(3, 16, 32)
    assert network_image(Image(1, 28, 28)) == Image(1, 28, 28)
    halved = RawPixels(Image(2, 3, 2))(x)
    assert halved.shape == (3, 12)
    assert "3x2" in RawPixels(Image(2, 3, 2)).resizer


def test_grey_is_repeated_and_alpha_left_out() -> None:
    network = RawPixels(Image(3, 2, 2))
    grey, alpha = torch.rand(1, 1, 2, 2), torch.rand(1, 4, 2, 2)
    assert torch.equal(network(grey), grey.expand(1, 3, 2, 2).flatten(1))
    assert torch.equal(network(alpha), alpha[:, :3].flatten(1))
    with pytest.raises(UserError, match="3 channels, got 2"):
        network(torch.rand(1, 2, 2, 2))
    with pytest.raises(UserError, match="got \\[2, 2\\]"):
        network(torch.rand(2, 2))


def test_principal_pixels_are_the_directions_of_most_variance() -> None:
    source = digits().in_order()
    network = fit_principal(source, 10, 500)
    x = source.take(0, 500).signals.flatten(1).double()
    values = torch.linalg.svdvals(x - x.mean(0))[:10] ** 2 / 499
    seen = network(source.take(0, 500).signals)
    torch.testing.assert_close(seen.double().T.cov(), torch.diag(values), atol=1e-5, rtol=1e-4)
    assert network.name == "pixels-pca10"
    with pytest.raises(UserError, match="65 components"):
        fit_principal(source, 65)


def test_a_classifier_learns_its_labels_and_is_the_same_for_the_same_seed() -> None:
    before = torch.random.get_rng_state()
    network = train_classifier(digits(), "digits-classifier", images=4000)
    assert torch.equal(torch.random.get_rng_state(), before)
    found = accuracy(network, open_source("digits", split="test").in_order(), 150)
    assert min(found.values()) > 0.9
    again, other = (train_classifier(digits(), "digits-classifier", images=512, seed=s) for s in (0, 1))
    same = train_classifier(digits(), "digits-classifier", images=512, seed=0)
    assert again.fingerprint == same.fingerprint != other.fingerprint


def test_contrast_by_hand() -> None:
    codes = torch.randn(6, 4)
    unit = codes / codes.norm(dim=1, keepdim=True)
    wanted = 0.0
    for i in range(6):
        others = [j for j in range(6) if j != i]
        top = torch.exp(unit[i] @ unit[(i + 3) % 6] / 0.2)
        wanted -= float(torch.log(top / sum(torch.exp(unit[i] @ unit[j] / 0.2) for j in others))) / 6
    assert float(contrast(codes, 0.2)) == pytest.approx(wanted, rel=1e-5)


def test_without_labels_a_network_learns_to_tell_images_apart() -> None:
    source = digits().with_labels([])
    with pytest.raises(UserError, match="no label of two classes"):
        train_classifier(source, "x")
    network = train_contrastive(source, "digits-contrastive", images=3072)

    def lost(network: FeatureNetwork) -> float:
        """How hard it is to find a view's twin among those of other images that were never seen."""
        x = open_source("digits", split="test").in_order().take(0, 150).signals
        codes = [network(views(x, Seeded(i, "test"))) for i in range(2)]
        return float(contrast(torch.cat([(c - codes[0].mean(0)) / codes[0].std(0) for c in codes]), 0.2))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = CompactNetwork(source.signal, "fresh").eval().requires_grad_(False)
    assert lost(network) < lost(fresh) - 0.4
    with pytest.raises(UserError, match="7 images are too few"):
        train_contrastive(images(7), "x")


def test_networks_return_from_their_files(tmp_path: Path) -> None:
    x = torch.rand(4, 1, 8, 8) * 2 - 1
    networks: list[FeatureNetwork] = [
        train_classifier(digits(), "digits-classifier", images=256),
        CompactNetwork(Image(1, 8, 8), "digits-contrastive").eval(),
        fit_principal(digits(), 5),
    ]
    for network in networks:
        path = tmp_path / f"{network.name}.safetensors"
        write_network(path, network, {"images": 256, "seed": 0})
        again, trained = read_network(path)
        assert trained == {"images": 256, "seed": 0}
        assert type(again) is type(network)
        assert (again.name, again.resizer, again.fingerprint) == (network.name, network.resizer, network.fingerprint)
        assert torch.equal(again(x), network(x))
    with pytest.raises(UserError, match="not kept as a file"):
        write_network(tmp_path / "x", RawPixels(Image(1, 8, 8)), {})


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    from anamorph.core.files import write_tensors

    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.zeros(1)}, {})
    with pytest.raises(UserError, match="holds no feature network"):
        read_network(path)
    for config, problem in (
        ("{", "damaged"),
        ('{"kind": "x", "image": {"channels": 1, "height": 8, "width": 8}}', "unknown kind"),
    ):
        write_tensors(path, {"a": torch.zeros(1)}, {"format": "anamorph features 1", "config": config})
        with pytest.raises(UserError, match=problem):
            read_network(path)
    with pytest.raises(UserError, match="no such file"):
        read_network(tmp_path / "b")


class Counting:
    """A source that counts how often each image is taken."""

    def __init__(self, source: Images) -> None:
        self.source, self.taken = source, np.zeros(source.size, int)
        self.signal, self.size, self.labels, self.fingerprint = source.signal, source.size, source.labels, source.fingerprint

    def take(self, start: int, count: int, level: int = 0) -> Batch:
        self.taken[start : start + count] += 1
        return self.source.take(start, count, level)


def test_each_image_is_looked_at_once_by_every_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from anamorph.features import batches as stream

    monkeypatch.setattr(stream, "BATCH", 16)
    source, reports = Counting(images().in_order()), []
    networks = [RawPixels(Image(2, 6, 4)), PrincipalPixels(Image(2, 6, 4), 3)]
    sets = features_of_source(source, 40, networks, "random", lambda done, total: reports.append((done, total)))
    assert source.taken.tolist() == [1] * 40
    assert reports == [(16, 40), (32, 40), (40, 40)]
    assert [(s.network, s.images, tuple(s.values.shape)) for s in sets] == [
        ("pixels", "random", (40, 48)),
        ("pixels-pca3", "random", (40, 3)),
    ]
    assert torch.equal(sets[0].values, images().in_order().take(0, 40).signals.flatten(1))
    with pytest.raises(UserError, match="41 images were asked for, and there are 40"):
        features_of_source(source, 41, networks, "random")
    with pytest.raises(UserError, match="no feature network"):
        features_of(iter([torch.zeros(1, 1, 2, 2)]), [], "images")


def test_samples_and_reconstructions_are_decoded_once() -> None:
    model = make_run("alae").model.eval()
    count = 0
    decode = model.decode

    def counted(*args: object, **kwargs: object) -> Tensor:
        nonlocal count
        out = decode(*args, **kwargs)  # type: ignore[arg-type]
        count += len(out)
        return out

    model.decode = counted  # type: ignore[method-assign]
    samples = list(sampled(model, 300, Seeded(0)))
    assert count == 300
    assert sum(len(s.images) for s in samples) == 300
    assert torch.equal(samples[0].images, next(iter(sampled(model, 300, Seeded(0)))).images)
    again = list(reconstructed(model, images().in_order(), 40))
    assert torch.equal(
        torch.cat([r.originals for r in again if r.originals is not None]), images().in_order().take(0, 40).signals
    )
    with pytest.raises(UnsupportedOperation, match="samples needs a model that samples"):
        next(sampled(make_run("autoencoder").model, 2, Seeded(0)))
    with pytest.raises(UnsupportedOperation, match="reconstructions needs a model that encodes"):
        next(reconstructed(make_run("gan").model, images(), 2))


def test_images_as_files_hold_them() -> None:
    """The official conversion, at its ties and beyond its range."""
    x = torch.tensor([-1.2, -1.0, -0.999, -0.5, 0.0, 0.002, 0.5, 0.9999, 1.0, 1.3])
    wanted = torch.tensor([0, 0, 0, 64, 128, 128, 191, 255, 255, 255])
    torch.testing.assert_close(quantise_8bit(x), wanted / 127.5 - 1)


def test_a_network_without_a_distance_of_its_own_has_that_of_its_features() -> None:
    network = RawPixels(Image(1, 2, 2))
    a, b = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.5)
    assert image_distance(network, a, b).tolist() == [1.0]


def test_labels_of_one_class_are_not_learned() -> None:
    pixels = InMemory(np.zeros((20, 1, 8, 8), np.uint8))
    source = Images("x", pixels, np.arange(20), (Label("only", ("a",)),), {"only": np.zeros(20, np.int64)})
    with pytest.raises(UserError, match="no label of two classes or more"):
        train_classifier(source, "x")
    assert CompactClassifier(Image(1, 8, 8), "x", {"a": 2}).probabilities(torch.zeros(2, 1, 8, 8))["a"].shape == (2, 2)


@pytest.mark.slow
def test_fashion_is_learned_in_about_a_minute(real_data: Path) -> None:
    network = train_classifier(open_source("fashion-mnist", split="train"), "fashion-mnist-classifier")
    assert accuracy(network, open_source("fashion-mnist", split="test").in_order(), 10_000)["class"] >= 0.88
