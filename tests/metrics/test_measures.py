"""Results that say how they were taken: names, protocols, and measures from streams."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anamorph.core.config import to_plain
from anamorph.core.errors import UserError
from anamorph.core.random import Seeded
from anamorph.core.signal import Image
from anamorph.features.batches import Decoded
from anamorph.features.feature_set import FeatureSet
from anamorph.features.network import DistanceNetwork
from anamorph.features.pixels import RawPixels
from anamorph.metrics.frechet import frechet_of_features
from anamorph.metrics.measure import Measure
from anamorph.metrics.reconstruction import latent_error, reconstruction_error
from anamorph.metrics.samples import copies, diversity, fid, kid, neighbours
from anamorph.metrics.similarity import ssim
from reciprocity import latent_measures, measures_of_pairs, reconstruction_measures
from small import images, make_run


def features(n: int, seed: int, name: str = "real", shift: float = 0.0) -> FeatureSet:
    values = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed)) + shift
    return FeatureSet(values, "pixels-pca6", "antialiased bilinear to 8x8", name)


def test_a_name_carries_any_network_but_the_published_one() -> None:
    assert Measure("fid", 1, "", "low", {"real": 5}, "inception-v3-fid").label == "fid"
    assert Measure("fid", 1, "", "low", {"real": 5}, "pixels-pca64").label == "fid[pixels-pca64]"
    assert Measure("fid_of_reconstructions", 1, "", "low", {}, "inception-v3-fid").label == "fid_of_reconstructions"
    assert Measure("ppl_w_full", 1, "", "low", {}, "inception-v3-fid").label == "ppl_w_full[inception-v3-fid]"
    assert Measure("reconstruction_mse", 1, "", "low", {"images": 5}).label == "reconstruction_mse"
    assert Measure("diversity", 1, "", "neither", {}, "inception-v3-fid").label == "diversity[inception-v3-fid]"


def test_a_protocol_differs_in_whatever_makes_numbers_incomparable() -> None:
    first = fid(features(50, 0), features(60, 1, "generated"))
    assert first.protocol == "fid[pixels-pca6]; 50 real, 60 generated; antialiased bilinear to 8x8; real"
    assert fid(features(50, 0), features(61, 1, "generated")).protocol != first.protocol
    five = neighbours(features(50, 0), features(60, 1), k=5)[0]
    assert neighbours(features(50, 0), features(60, 1), k=3)[0].protocol != five.protocol
    assert to_plain(first)["n"] == {"real": 50, "generated": 60}


def test_measures_of_samples_are_those_of_their_features() -> None:
    real, made = features(200, 0), features(150, 1, "generated", 0.5)
    found = fid(real, made)
    assert found.value == pytest.approx(frechet_of_features(real.values, made.values))
    assert found.floor is not None
    assert 0 < found.floor < found.value
    assert str(found).startswith("fid[pixels-pca6] ")
    kernel = kid(real, made, Seeded(0), subsets=5, size=1000)
    assert kernel.settings == {"subsets": 5, "size": 150}
    assert kernel.error is not None
    assert [m.name for m in neighbours(real, made)] == ["precision", "recall", "density", "coverage"]
    assert diversity(real).n == {"real": 200}
    copied = FeatureSet(real.values[:100] + 1e-4, real.network, real.resizer, "generated")
    measure, details = copies(real, features(100, 5), copied)
    assert measure.value == 1
    assert details.nearest.tolist() == list(range(100))
    other = FeatureSet(made.values, "another", made.resizer, "generated")
    with pytest.raises(UserError, match=r"from pixels-pca6 .* from another .*: take both from one network"):
        fid(real, other)


class Mean(DistanceNetwork):
    """The difference of mean brightness."""

    name, resizer, width = "mean", "none", 1

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).mean(1, keepdim=True)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        return (self(a) - self(b)).abs()[:, 0]


def test_reconstructions_are_measured_in_one_pass() -> None:
    model, source = make_run("autoencoder").model.eval(), images(80).in_order()
    found = {m.label: m for m in reconstruction_measures(model, source, 80, [RawPixels(Image(2, 6, 4)), Mean()], "test")}
    assert set(found) == {
        "reconstruction_mse",
        "reconstruction_psnr",
        "feature_distance[pixels]",
        "fid_of_reconstructions[pixels]",
        "lpips[mean]",
        "fid_of_reconstructions[mean]",
    }
    wanted = reconstruction_error(model, source, 80)
    assert found["reconstruction_mse"].value == pytest.approx(wanted["reconstruction_mse"], rel=1e-5)
    assert found["reconstruction_psnr"].value == pytest.approx(wanted["reconstruction_psnr_db"], rel=1e-5)
    assert found["reconstruction_mse"].n == {"images": 80}
    assert {m.split for m in found.values()} == {"test"}
    few = [m.label for m in reconstruction_measures(model, source, 40, [RawPixels(Image(2, 6, 4))])]
    assert "fid_of_reconstructions[pixels]" not in few


def test_structure_is_compared_over_as_many_scales_as_fit() -> None:
    a = torch.rand(3, 1, 28, 28) * 2 - 1
    b = (a + 0.1 * torch.randn(a.shape)).clamp(-1, 1)
    found = {m.name: m.value for m in measures_of_pairs([Decoded(b, {}, a)], Image(1, 28, 28), [], "")}
    assert found["reconstruction_ssim"] == pytest.approx(float(ssim(a, b).mean()), rel=1e-5)
    assert "reconstruction_ms_ssim_2_scales" in found


def test_latent_measures_are_the_latent_error() -> None:
    model = make_run("alae").model.eval()
    found = {m.name: m.value for m in latent_measures(model, 30, Seeded(0))}
    assert found == latent_error(model, 30, Seeded(0))
