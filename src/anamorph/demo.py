"""The demonstration: an adversarial latent autoencoder on handwritten digits, in about a minute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.random import Seeded
from anamorph.data.dataset import Dataset
from anamorph.edit.interpolate import plane, strip
from anamorph.figures.grid import Row, save_grid, save_picture, sheet
from anamorph.metrics.probes import linear_svm_accuracy, nearest_neighbour_accuracy
from anamorph.metrics.reconstruction import latent_error, reconstruction_error
from anamorph.models.adversarial_autoencoders.alae import ALAE, ALAEConfig
from anamorph.run_data import open_data
from anamorph.runs import load, new_settings, open_training, settings_of
from anamorph.training.folder import RunFolder
from anamorph.training.session import Status

__all__ = ["DemoResults", "show_demo", "train_demo"]

IMAGES = 600_000
CONFIG = ALAEConfig(
    width=256,
    mapping_layers=4,
    code_slope=0.2,
    generator_slope=0.2,
    r1=0.2,  # the penalty grows with the number of pixels; 8x8 has a twelfth of MNIST's
    learning_rate=0.003,
)


def train_demo(folder: RunFolder, stop: Callable[[], bool] = lambda: False) -> Iterator[Status]:
    """Train in a locked folder, from its last checkpoint; yields a status at every step.

    Raises:
        UserError: if the folder holds another run.
    """
    if not folder.exists:
        new_settings("alae", "digits", IMAGES, config=CONFIG).write(folder)
    settings = settings_of(folder)
    if (settings.model, settings.source, settings.config) != ("alae", "digits", CONFIG):
        raise UserError(
            f"{folder} holds a run of {settings.model} on {settings.source}, not the demo's: choose another folder (--out)"
        )
    yield from open_training(folder).run_to_end(stop)


@dataclass(frozen=True)
class DemoResults:
    """The results of the demonstration.

    Args:
        pictures: a caption for each file.
        table: measures by name, each (of the model, of raw pixels).
    """

    pictures: dict[Path, str]
    table: dict[str, tuple[str, str]]


@torch.no_grad()
def show_demo(folder: RunFolder) -> DemoResults:
    """Write the pictures of a trained demonstration, and measure it on held-out digits."""
    model = load(folder.path)
    assert isinstance(model, ALAE)
    settings = settings_of(folder)
    train, held_out = (open_data(settings, split).in_order() for split in ("train", "test"))
    return DemoResults(_pictures(folder, model, held_out), _table(model, train, held_out))


def _pictures(folder: RunFolder, model: ALAE, held_out: Dataset) -> dict[Path, str]:
    x = held_out.take(0, 12).signals
    codes = model.encode(x)
    samples, reconstructions, interpolations = (
        folder.pictures / f"{name}.png" for name in ("samples", "reconstructions", "interpolations")
    )
    save_grid(samples, model.decode(model.sample_codes(48, Seeded(0, "samples"))), columns=12)
    save_picture(reconstructions, sheet([Row("held-out digits", x), Row("reconstructions", model.decode(codes))]))
    ends = [{"w": code} for code in codes["w"][:5]]
    rows = [Row("", model.decode(strip(a, b, 12))) for a, b in pairwise(ends)]
    save_picture(interpolations, sheet(rows, "From one held-out digit to the next, through w"))
    square = folder.pictures / "interpolations-grid.png"
    save_grid(square, model.decode(plane(ends[:4], 8, 8)), columns=8, title="Between four held-out digits")
    return {
        folder.pictures / "timeline.png": "the same samples and reconstructions while it learned",
        samples: "samples: digits that do not exist",
        reconstructions: "held-out digits and their reconstructions",
        interpolations: "interpolations between digits",
        square: "a plane between four digits",
        folder.pictures / "curves.png": "the losses",
    }


def _table(model: ALAE, dataset: Dataset, held_out: Dataset) -> dict[str, tuple[str, str]]:
    train, test = dataset.take(0, dataset.size), held_out.take(0, held_out.size)
    classes, test_classes = train.labels["class"], test.labels["class"]

    def probes(codes: Tensor, test_codes: Tensor) -> tuple[float, float]:
        data = (codes, classes, test_codes, test_classes)
        return nearest_neighbour_accuracy(*data), linear_svm_accuracy(*data)

    nn, svm = probes(model.encode(train.signals)["w"], model.encode(test.signals)["w"])
    pixel_nn, pixel_svm = probes(train.signals.flatten(1), test.signals.flatten(1))
    errors = reconstruction_error(model, held_out, held_out.size) | latent_error(model, 1000, Seeded(0, "latent error"))
    spread = float((test.signals - test.signals.mean(0)).square().mean())  # the error of always giving the mean image
    return {
        "reconstruction error |G(E(x)) - x|^2 per pixel": (
            f"{errors['reconstruction_mse']:.3f}",
            f"{spread:.3f} (mean image)",
        ),
        "latent error |E(G(w)) - w| / spread of w": (f"{errors['latent_error_relative']:.3f}", "-"),
        "1-NN accuracy on held-out digits": (f"{nn:.1%}", f"{pixel_nn:.1%}"),
        "linear SVM accuracy on held-out digits": (f"{svm:.1%}", f"{pixel_svm:.1%}"),
    }
