"""Presets: how to train the growing models at a size, so that nobody has to assemble a schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anamorph.catalog import config_class, model_entry
from anamorph.core.errors import UserError
from anamorph.core.stage import Growing

__all__ = ["PRESETS", "Preset", "preset", "presets_of"]


@dataclass(frozen=True)
class Preset:
    """How to train a model at a size.

    Args:
        model: name of the model.
        size: shorter side of the images, in pixels.
        fields: settings of the model that differ from their defaults.
        growing: how it grows, level by level.
        images: total of images to train on.
        about: where the preset comes from, and whether it has been trained to its end.
    """

    model: str
    size: int
    fields: dict[str, Any]
    growing: Growing
    images: int
    about: str

    @property
    def config(self) -> Any:
        """The model's settings."""
        return config_class(self.model)(**self.fields)


SMALL = {"w_dim": 128, "channel_base": 1024, "channel_max": 128, "r1": 1.0}
MEDIUM = {"w_dim": 128, "channel_base": 2048, "channel_max": 128, "r1": 2.0}
CELEBA = {"w_dim": 256, "channel_base": 8192, "channel_max": 256}
NARROW = {"z_dim": 128, "mapping_width": 128}


def _abrupt(batches: tuple[int, ...], initial: int, stable: int) -> Growing:
    """Growth for CPUs: levels are short and not faded in, since each fade would need a compilation of its own."""
    return Growing(batches, (1.0,) * len(batches), initial_images=initial, fade_images=0, stable_images=stable)


def _released(batches: tuple[int, ...], images: int, rates: tuple[float, ...] = ()) -> Growing:
    """Growth of the released ALAE: `images` at each level, faded in along a sine during the first half."""
    rates = (1.0,) * (len(batches) - len(rates)) + rates
    return Growing(
        batches, rates, initial_images=images, fade_images=images // 2, stable_images=images - images // 2, fade_curve="sine"
    )


def _official(batches: tuple[int, ...], rates: tuple[float, ...]) -> Growing:
    """Growth of the official StyleGAN on one GPU: from 8x8, 600,000 images of fade at each level and as many after it."""
    return Growing(
        batches,
        (1.0,) * (len(batches) - len(rates)) + rates,
        initial_images=600_000,
        fade_images=600_000,
        stable_images=600_000,
    )


PRESETS = (
    Preset(
        "stylealae",
        32,
        SMALL,
        _abrupt((128, 128, 64, 32), 40_000, 60_000),
        600_000,
        "for CPUs; trained on cats, 2.5 hours of one core",
    ),
    Preset("stylealae", 64, MEDIUM, _abrupt((128, 128, 64, 32, 32), 60_000, 90_000), 1_000_000, "for CPUs; not trained"),
    Preset(
        "stylealae",
        128,
        CELEBA,
        _released((128, 128, 128, 64, 32, 16), 1_095_744),
        14_609_920,
        "the released configuration for CelebA, for one GPU; not trained",
    ),
    Preset(
        "stylealae",
        256,
        {},
        _released((128, 128, 128, 64, 32, 16, 16), 869_760),
        8_117_760,
        "the released configuration for CelebA-HQ, for one GPU; not trained",
    ),
    Preset(
        "stylealae",
        1024,
        {},
        _released((512, 256, 128, 64, 32, 16, 16, 16, 16), 960_000, (4 / 3, 2.0, 2.0)),
        18_000_000,
        "the released configuration for FFHQ, for one large GPU; not trained",
    ),
    Preset(
        "stylegan",
        32,
        SMALL | NARROW,
        _abrupt((128, 128, 64, 32), 40_000, 60_000),
        900_000,
        "for CPUs; trained on cats, to two thirds",
    ),
    Preset(
        "stylegan",
        64,
        MEDIUM | NARROW,
        _abrupt((128, 128, 64, 32, 32), 60_000, 90_000),
        1_500_000,
        "for CPUs; not trained",
    ),
    Preset(
        "stylegan",
        128,
        {},
        _official((128, 128, 64, 32, 16), (1.5,)),
        25_000_000,
        "the official configuration, for one GPU; not trained",
    ),
    Preset(
        "stylegan",
        256,
        {},
        _official((128, 128, 64, 32, 16, 8), (1.5, 2.0)),
        25_000_000,
        "the official configuration, for one GPU; not trained",
    ),
    Preset(
        "stylegan",
        1024,
        {},
        _official((128, 128, 64, 32, 16, 8, 4, 4), (1.5, 2.0, 3.0, 3.0)),
        25_000_000,
        "the official configuration, for one GPU; not trained",
    ),
)


def presets_of(model: str) -> list[Preset]:
    """Return the presets of a model, the smallest first."""
    return [p for p in PRESETS if p.model == model]


def preset(model: str, size: int) -> Preset:
    """Return the preset of a model at a size.

    Raises:
        UserError: if there is none; the message names those that there are.
    """
    presets = presets_of(model_entry(model).name)
    if not presets:
        models = ", ".join(dict.fromkeys(p.model for p in PRESETS))
        raise UserError(f"{model} has no presets and needs none: train it without a preset (models with presets: {models})")
    for one in presets:
        if one.size == size:
            return one
    raise UserError(f"{model} has no preset {size}: there are {', '.join(str(one.size) for one in presets)}")
