"""Small models and data for tests: sizes all different, images not square."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from anamorph.catalog import build
from anamorph.core.model import Grows, LatentModel
from anamorph.core.signal import Audio, Batch, Image, Label, Signal, Source
from anamorph.core.space import Codes
from anamorph.core.stage import Constant
from anamorph.data.images import Images, InMemory
from anamorph.models.adversarial.gan import GANConfig
from anamorph.models.adversarial.stylegan import StyleGANConfig
from anamorph.models.adversarial_autoencoders.alae import ALAEConfig
from anamorph.models.adversarial_autoencoders.stylealae import StyleALAEConfig
from anamorph.models.autoencoders.autoencoder import AutoencoderConfig
from anamorph.models.autoencoders.vae import VAEConfig
from anamorph.models.quantized.audio_vqvae import AudioVQVAEConfig
from anamorph.models.quantized.vqvae import VQVAEConfig
from anamorph.models.quantized.vqvae2 import VQVAE2Config
from anamorph.nn.pixel_likelihood import LikelihoodConfig
from anamorph.nn.wavenet_layers import WaveNetSizes
from anamorph.training.run import ComputeSettings, Run

IMAGE = Image(2, 6, 4)
STYLED = Image(2, 8, 16)
"""For models whose sides are powers of two."""
STRIDED = Image(2, 16, 24)
"""For models that divide sides by a stride."""
SOUND = Audio(1, 40, 1000)
BATCH = 8
DILATED = WaveNetSizes(layers=3, dilation_cycle=2, residual_channels=6, gate_channels=5, skip_channels=7, head_channels=8)
LAW = LikelihoodConfig(condition_channels=3, width=4, layers=2)
CASES: dict[str, tuple[str, Any]] = {
    "alae": ("alae", ALAEConfig(width=16, w_dim=5, z_dim=3, mapping_layers=2)),
    "alae-eta": ("alae", ALAEConfig(width=16, w_dim=5, z_dim=3, eta_dim=2, resolution=5)),
    "alae-wasserstein": ("alae", ALAEConfig(width=16, w_dim=5, z_dim=3, adversarial_loss="wasserstein", pixel_range="signed")),
    "audio_vqvae": (
        "audio_vqvae",
        AudioVQVAEConfig(
            stride=8,
            width=6,
            residual_blocks=1,
            codes_per_position=2,
            num_embeddings=11,
            embedding_dim=3,
            decoder=DILATED,
            condition_channels=4,
            label="class",
            num_speakers=2,
        ),
    ),
    "audio_vqvae-mixture": (
        "audio_vqvae",
        AudioVQVAEConfig(
            stride=4,
            encoder_input="spectrum",
            width=6,
            residual_blocks=0,
            num_embeddings=11,
            embedding_dim=3,
            codebook_update="gradient",
            decoder=DILATED,
            condition_channels=4,
            spectrum_weight=1.0,
            input_noise=2.0,
            mixture_components=3,
        ),
    ),
    "autoencoder": ("autoencoder", AutoencoderConfig(z_dim=5, width=16)),
    "gan": ("gan", GANConfig(z_dim=5, width=16)),
    "gan-saturating": ("gan", GANConfig(z_dim=5, width=16, adversarial_loss="saturating", r1=0)),
    "gan-wasserstein": ("gan", GANConfig(z_dim=5, width=16, adversarial_loss="wasserstein")),
    "stylealae": ("stylealae", StyleALAEConfig(w_dim=6, mapping_layers=2, channel_base=48, channel_max=5)),
    "stylealae-features": (
        "stylealae",
        StyleALAEConfig(w_dim=6, channel_base=48, channel_max=5, w_from="features", regression="z"),
    ),
    "stylealae-separate": (
        "stylealae",
        StyleALAEConfig(w_dim=6, channel_base=48, channel_max=5, w_from="styles and features", critic_input="images"),
    ),
    "stylegan": (
        "stylegan",
        StyleGANConfig(
            z_dim=3, w_dim=6, mapping_width=4, mapping_layers=2, channel_base=48, channel_max=5, mapping_lr_multiplier=0.1
        ),
    ),
    "vae": ("vae", VAEConfig(z_dim=5, widths=(16, 12))),
    "vae-convolutional": (
        "vae",
        VAEConfig(
            z_dim=5,
            net="convolutional",
            stride=2,
            width=6,
            residual_blocks=1,
            residual_channels=4,
            likelihood="shared",
            beta=2.0,
            kl_warmup=20,
        ),
    ),
    "vae-free": ("vae", VAEConfig(z_dim=5, widths=(16,), likelihood="pixelcnn", likelihood_config=LAW, free_bits=0.05)),
    "vqvae": (
        "vqvae",
        VQVAEConfig(width=6, residual_blocks=1, residual_channels=5, num_embeddings=11, embedding_dim=3, codes_per_position=2),
    ),
    "vqvae-gradient": (
        "vqvae",
        VQVAEConfig(
            stride=2,
            width=6,
            residual_blocks=1,
            residual_channels=5,
            num_embeddings=11,
            embedding_dim=3,
            codebook_update="gradient",
            likelihood="bernoulli",
        ),
    ),
    "vqvae-residual": (
        "vqvae",
        VQVAEConfig(
            width=6,
            residual_blocks=1,
            residual_channels=5,
            num_embeddings=7,
            embedding_dim=3,
            quantizer="residual",
            codes_per_position=3,
            likelihood="gaussian",
        ),
    ),
    "vqvae-scalar": (
        "vqvae",
        VQVAEConfig(
            width=6,
            residual_blocks=1,
            residual_channels=5,
            quantizer="scalar",
            fsq_levels=(64, 48),
            likelihood="pixelcnn",
            likelihood_config=LAW,
        ),
    ),
    "vqvae2": ("vqvae2", VQVAE2Config(width=8, residual_blocks=1, residual_channels=5, num_embeddings=11, embedding_dim=3)),
    "vqvae2-three": (
        "vqvae2",
        VQVAE2Config(
            num_levels=3,
            stride=2,
            width=6,
            residual_blocks=1,
            residual_channels=5,
            num_embeddings=11,
            embedding_dim=3,
            restart_threshold=0.0,
            kmeans_init=False,
        ),
    ),
    "vae-iwae": ("vae", VAEConfig(z_dim=5, widths=(16,), likelihood="gaussian", bound="iwae", importance_samples=3)),
}


def image_of(case: str) -> Image:
    return STYLED if case.startswith("style") else STRIDED if case.startswith("vq") else IMAGE


def signal_of(case: str) -> Signal:
    return SOUND if case.startswith("audio") else image_of(case)


@dataclass(frozen=True)
class Sounds:
    """A source of random sounds with two classes, softer and louder."""

    samples: torch.Tensor
    classes: torch.Tensor
    signal: Audio = SOUND
    labels: tuple[Label, ...] = (Label("class", ("soft", "loud")),)
    fingerprint: str = "random"

    @property
    def size(self) -> int:
        return len(self.samples)

    def take(self, start: int, count: int, level: int = 0) -> Batch:
        rows = torch.arange(start, start + count) % self.size
        return Batch(self.samples[rows], {"class": self.classes[rows]})


def sounds(n: int = 40, seed: int = 0) -> Sounds:
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(2, (n,), generator=generator)
    samples = torch.rand(n, *SOUND.shape, generator=generator) * 2 - 1
    return Sounds(samples * (0.1 + 0.9 * classes)[:, None, None], classes)


def source(case: str) -> Source:
    """Of random images or sounds, for a case."""
    return sounds() if case.startswith("audio") else images(case=case)


def codes_of(model: LatentModel, n: int) -> Codes:
    """Random codes of a model's spaces."""
    return {
        s.name: torch.randn(n, *s.shape) if s.num_codes is None else torch.randint(s.num_codes, (n, *s.shape))
        for s in model.spaces
    }


def images(n: int = 40, seed: int = 0, case: str = "alae") -> Images:
    """A source of random images with two classes, brighter and darker."""
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, 2, n)
    pixels = generator.integers(0, 128, (n, *image_of(case).shape)) + 127 * classes[:, None, None, None]
    label = Label("class", ("dark", "bright"))
    return Images("random", InMemory(pixels.astype(np.uint8)), np.arange(n), (label,), {"class": classes})


def batch(n: int = BATCH, case: str = "alae") -> Batch:
    return source(case).take(0, n)


def make_run(case: str, machine: ComputeSettings | None = None, seed: int = 0) -> Run:
    name, config = CASES[case]
    model, recipe = build(name, signal_of(case), config, seed)
    if isinstance(model, Grows) or case == "vqvae-scalar":  # what begins at zero or one hides what is behind it
        generator = torch.Generator().manual_seed(seed)
        for key, parameter in model.named_parameters():
            # An all-positive constant leaves the first bias without a gradient: the norm removes what it adds.
            scale = 1.0 if key.endswith("constant") else 0.1
            parameter.data += scale * torch.randn(parameter.shape, generator=generator)
    return Run(model, recipe, Constant(BATCH), seed, machine or ComputeSettings())


def state(run: Run) -> dict[str, torch.Tensor]:
    """A copy of all that a later step depends on."""
    return {name: value.clone() for name, value in run.tensors().items()}


def differing(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> list[str]:
    """The names of tensors that are not equal bit for bit."""
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]
