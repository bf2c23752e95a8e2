"""Measures of latent spaces through a feature network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.model import LatentModel, UnsupportedOperation
from anamorph.core.random import Seeded
from anamorph.core.signal import Image
from anamorph.features.network import ClassifierNetwork
from anamorph.features.pixels import RawPixels
from anamorph.metrics.path_length import PathLengthSettings
from anamorph.metrics.spaces import linear_separability, perceptual_path_length, probes
from small import make_run


class Brightness(ClassifierNetwork):
    """How bright the first pixel is, by rank; and a class that is always the same."""

    name, resizer, width = "brightness", "none", 1

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1, 0, 0]

    def probabilities(self, x: Tensor) -> dict[str, Tensor]:
        bright = self(x).argsort(0).argsort(0) / (len(x) - 1)
        return {"bright": torch.cat([bright, 1 - bright], 1), "same": torch.tensor([[0.9, 0.1]]).expand(len(x), 2)}


def model(case: str) -> LatentModel:
    return make_run(case).model.eval()


def test_path_length_says_how_it_was_taken() -> None:
    measure, found = perceptual_path_length(
        model("alae"), RawPixels(Image(2, 6, 4)), 20, Seeded(0), PathLengthSettings("z", crop=False)
    )
    assert measure.label == "ppl_z_full[pixels]"
    assert measure.value == found.mean > 0
    assert (
        measure.protocol
        == "ppl_z_full[pixels]; 20 pairs; antialiased bilinear to 6x4; epsilon 0.0001; crop none; percentiles 1 to 99"
    )


def test_separability_of_both_spaces_or_of_the_one_there_is() -> None:
    found = linear_separability(model("alae"), Brightness(), 200, Seeded(0))
    assert [m.label for m in found] == ["separability_z[brightness]", "separability_w[brightness]"]
    assert all(1 <= m.value <= 2 for m in found)
    assert found[0].n == {"samples": 200, "kept": 100}
    assert found[0].settings == {"attributes": "bright, same", "of a single class": 1}
    assert [m.name for m in linear_separability(model("stylegan"), Brightness(), 40, Seeded(0))] == [
        "separability_z",
        "separability_w",
    ]
    assert [m.name for m in linear_separability(model("vae"), Brightness(), 40, Seeded(0))] == ["separability_z"]
    with pytest.raises(UserError, match="pixels knows no classes"):
        linear_separability(model("alae"), RawPixels(Image(2, 6, 4)), 40, Seeded(0))
    with pytest.raises(UnsupportedOperation, match="a separability needs a model that samples"):
        linear_separability(model("autoencoder"), Brightness(), 40, Seeded(0))


def test_probes_read_what_is_there_and_not_what_is_not() -> None:
    classes = torch.arange(300) % 3
    codes = torch.eye(3)[classes].view(300, 1, 3) + 0.1 * torch.randn(300, 1, 3)
    measures = probes(codes[:200], classes[:200], codes[200:], classes[200:], "digit", "test")
    assert [m.name for m in measures] == ["1nn_accuracy", "5nn_accuracy", "svm_accuracy", "logistic_accuracy"]
    assert all(m.value == 1 for m in measures)
    noise = torch.randn(300, 3)
    assert all(m.value < 0.6 for m in probes(noise[:200], classes[:200], noise[200:], classes[200:], "digit"))
    with pytest.raises(UserError, match="two classes"):
        probes(noise[:200], classes[:200] * 0, noise[200:], classes[200:], "digit")
