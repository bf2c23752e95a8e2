"""The experiments of docs/results.md by name, and one function that runs any of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anamorph.training.autotune import ComputeRequest
    from experiments.tokens import Stage

__all__ = ["EXPERIMENTS", "Overrides", "run_experiment"]

EXPERIMENTS = {
    "cats": "stylealae, stylegan, autoencoder on avatars-cats at 32 px: what reconstructions keep, how samples spread (hours)",
    "alae-ablation": "stylealae without style encoder, with a separate D, with regression in z, on cats at 16 px (an hour)",
    "cats-directions": "stylealae, stylegan, alae, vae on the same cats: whether directions change what they should (hours)",
    "family-comparison": "every model on Fashion-MNIST and four on cats, 20 CPU minutes each, all measures (hours)",
    "tokens-mnist": "a VQ-VAE and a PixelCNN of its codes on MNIST: bits per pixel, samples (half an hour)",
    "tokens-fashion-mnist": "the same on Fashion-MNIST (half an hour)",
    "tokens-eurosat": "a VQ-VAE-2 and a PixelSNAIL of its codes on EuroSAT at 64 px (an hour)",
    "speech": "an audio VQ-VAE and a WaveNet of its codes on spoken digits: what is kept, other voices, samples (an hour)",
    "vae-mnist": "a VAE on binarised MNIST: ELBO and the bound of 5,000 importance weights (half an hour)",
    "collapse": "a VAE and a VQ-VAE with a PixelCNN for a decoder: which codes are still used (half an hour)",
    "compression": "two models of codes of Fashion-MNIST as compressors, beside JPEG and WebP (an hour)",
    "compression-eurosat": "the same of EuroSAT at 64 px, by a VQ-VAE-2 and PixelSNAIL (an hour)",
    "mnist-probes": "alae, vae and autoencoder on MNIST, 4.5 M images, 3 seeds: 1-NN and linear SVM on their codes (hours)",
}


@dataclass(frozen=True)
class Overrides:
    """Settings that replace an experiment's own, so that it can be run at another size.

    Args:
        images: images that each model is trained on.
        minutes: CPU minutes of training per model, in `family-comparison`.
        n: images and samples that are measured, in `family-comparison`.
        family: the only family that is compared, in `family-comparison`; by default all are.
    """

    images: int | None = None
    minutes: float | None = None
    n: int | None = None
    family: str | None = None


def run_experiment(
    name: str, out: Path, choice: ComputeRequest, say: Callable[[str], None], overrides: Overrides, stop: Callable[[], bool]
) -> bool:
    """Run an experiment, or go on with one that was stopped. Returns whether it came to its end."""
    images = overrides.images
    if name == "mnist-probes":
        from experiments.mnist_probes import IMAGES, mnist_probes

        return mnist_probes(out, choice, say, IMAGES if images is None else images, stop)
    if name in ("vae-mnist", "collapse"):
        from experiments.likelihoods import collapse, vae_mnist

        return (collapse if name == "collapse" else vae_mnist)(out, choice, say, images, stop)
    if name.startswith("compression"):
        from experiments.compression import COMPRESSION, compression_study

        return compression_study(COMPRESSION[name], out, choice, say, images, stop)
    if name == "speech":
        from experiments.speech import SPEECH, speech_study

        first, prior = (_resized(stage, images) for stage in (SPEECH.first, SPEECH.prior))
        return speech_study(replace(SPEECH, first=first, prior=prior), out, choice, say, stop)
    if name == "family-comparison":
        from experiments.family import FAMILIES, MINUTES, family_comparison

        families = {name: family for name, family in FAMILIES.items() if overrides.family in (None, name)}
        return family_comparison(out, choice, say, overrides.minutes or MINUTES, overrides.n or 5000, families, stop=stop)
    if name.startswith("tokens-"):
        from experiments.tokens import TOKENS, token_study

        first, prior = (_resized(stage, images) for stage in (TOKENS[name].first, TOKENS[name].prior))
        return token_study(replace(TOKENS[name], first=first, prior=prior), out, choice, say, stop)
    from experiments.cat_directions import DIRECTIONS, direction_study
    from experiments.cats import STUDIES, factor_study

    run, study = (direction_study, DIRECTIONS) if name == "cats-directions" else (factor_study, STUDIES[name])
    return run(study if images is None else replace(study, images=images), out, choice, say, stop)


def _resized(stage: Stage, images: int | None) -> Stage:
    return stage if images is None else replace(stage, images=images)
