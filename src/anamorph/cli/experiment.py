"""`anamorph experiment NAME`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from anamorph.cli.options import note, parse
from anamorph.core.errors import UserError, nearest

if TYPE_CHECKING:
    from anamorph.training.autotune import ComputeRequest

__all__ = ["main"]

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
    "collapse": "a VAE and a VQ-VAE with a PixelCNN for a decoder: which codes still say something (half an hour)",
    "compression": "two models of codes of Fashion-MNIST as compressors, beside JPEG and WebP (an hour)",
    "compression-eurosat": "the same of EuroSAT at 64 px, by a VQ-VAE-2 and PixelSNAIL (an hour)",
    "mnist-probes": "alae, vae and autoencoder on MNIST, 4.5 M images, 3 seeds: 1-NN and linear SVM on their codes (hours)",
}


@dataclass(frozen=True)
class Experiment:
    """Run an experiment of docs/results.md; what an interrupted one has done is kept, so that it can be started again."""

    name: tyro.conf.Positional[str]
    """Its name, or list."""
    out: Path | None = None
    """Where its runs and results go; runs/NAME by default."""
    device: str | None = None
    """cpu or cuda."""
    precision: Literal["float32", "bfloat16"] | None = None
    """Of the arithmetic; by default bfloat16 where it is faster."""
    threads: int | None = None
    """Processor threads; by default what is fastest now."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the training steps."""
    images: int | None = None
    """Train each model on fewer (or more) images than the experiment does."""
    minutes: float | None = None
    """Of family-comparison: CPU minutes that each model is trained for, 20 by default."""
    n: int | None = None
    """Of family-comparison: images and samples that are measured, 5,000 by default."""
    family: Literal["fashion-mnist", "cats"] | None = None
    """Of family-comparison: only the one on these images."""


def main(words: Sequence[str]) -> int:
    options = parse(Experiment, "experiment", words)
    if options.name == "list":
        print("\n".join(f"{name:<15} {what}" for name, what in EXPERIMENTS.items()))
        return 0
    if options.name not in EXPERIMENTS:
        raise UserError(f"no experiment {options.name!r}: {nearest(options.name, EXPERIMENTS)}")

    import os

    from anamorph.cli.train import COMPILED
    from anamorph.training.autotune import ComputeRequest
    from anamorph.training.live import Stop

    if hasattr(os, "nice"):
        os.nice(5)
    choice = ComputeRequest(options.device, options.precision, options.threads, COMPILED[options.compile])
    out = options.out or Path("runs") / options.name
    with Stop().listening() as stop:
        if _run(options, out, choice, stop):
            return 0
    note(f"stopped and saved: the same command goes on from {out}")
    return 130


def _run(options: Experiment, out: Path, choice: ComputeRequest, stop: Callable[[], bool]) -> bool:
    """Whether the experiment came to its end."""
    if options.name == "mnist-probes":
        from anamorph.experiments.mnist_probes import IMAGES, mnist_probes

        return mnist_probes(out, choice, note, IMAGES if options.images is None else options.images, stop)
    if options.name in ("vae-mnist", "collapse"):
        from anamorph.experiments.likelihoods import collapse, vae_mnist

        return (collapse if options.name == "collapse" else vae_mnist)(out, choice, note, options.images, stop)
    if options.name.startswith("compression"):
        from anamorph.experiments.compression import COMPRESSION, compression_study

        return compression_study(COMPRESSION[options.name], out, choice, note, options.images, stop)
    if options.name == "speech":
        from anamorph.experiments.speech import SPEECH, speech_study

        first, prior = (
            stage if options.images is None else replace(stage, images=options.images) for stage in (SPEECH.first, SPEECH.prior)
        )
        return speech_study(replace(SPEECH, first=first, prior=prior), out, choice, note, stop)
    if options.name == "family-comparison":
        from anamorph.experiments.family import FAMILIES, MINUTES, family_comparison

        families = {name: family for name, family in FAMILIES.items() if options.family in (None, name)}
        return family_comparison(out, choice, note, options.minutes or MINUTES, options.n or 5000, families, stop=stop)
    if options.name.startswith("tokens-"):
        from anamorph.experiments.tokens import TOKENS, token_study

        tokens = TOKENS[options.name]
        if options.images is not None:
            first, prior = (replace(stage, images=options.images) for stage in (tokens.first, tokens.prior))
            tokens = replace(tokens, first=first, prior=prior)
        return token_study(tokens, out, choice, note, stop)
    from anamorph.experiments.cat_directions import DIRECTIONS, direction_study
    from anamorph.experiments.cats import STUDIES, factor_study

    run, study = (direction_study, DIRECTIONS) if options.name == "cats-directions" else (factor_study, STUDIES[options.name])
    study = study if options.images is None else replace(study, images=options.images)
    return run(study, out, choice, note, stop)
