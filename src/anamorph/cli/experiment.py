"""`anamorph experiment NAME`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from anamorph.cli.options import note
from anamorph.cli.parsing import ADVANCED, parse
from anamorph.core.errors import UserError, nearest

if TYPE_CHECKING:
    from anamorph.training.autotune import ComputeRequest

__all__ = ["main"]

EXPERIMENTS = {
    "cats": "stylealae, stylegan, autoencoder on avatars-cats at 32 px: reconstructions, diversity of samples (hours)",
    "alae-ablation": "stylealae without style encoder, with a separate D, with regression in z, on cats at 16 px (an hour)",
    "cats-directions": "stylealae, stylegan, alae, vae on the same cats: whether directions change what they should (hours)",
    "family-comparison": "every model on Fashion-MNIST and four on cats, 20 CPU minutes each, all measures (hours)",
    "tokens-mnist": "a VQ-VAE and a PixelCNN of its codes on MNIST: bits per pixel, samples (half an hour)",
    "tokens-fashion-mnist": "the same on Fashion-MNIST (half an hour)",
    "tokens-eurosat": "a VQ-VAE-2 and a PixelSNAIL of its codes on EuroSAT at 64 px (an hour)",
    "speech": "an audio VQ-VAE and a WaveNet of its codes on spoken digits: reconstructions, other voices, samples (an hour)",
    "vae-mnist": "a VAE on binarised MNIST: ELBO and the bound of 5,000 importance weights (half an hour)",
    "collapse": "a VAE and a VQ-VAE with a PixelCNN as decoder: whether their codes stay informative (half an hour)",
    "compression": "two models with priors as compressors of Fashion-MNIST, compared with JPEG and WebP (an hour)",
    "compression-eurosat": "the same on EuroSAT at 64 px, by a VQ-VAE-2 and a PixelSNAIL (an hour)",
    "mnist-probes": "alae, vae and autoencoder on MNIST, 4.5 M images, 3 seeds: 1-NN and linear SVM on their codes (hours)",
}


@dataclass(frozen=True)
class Experiment:
    """Run an experiment of docs/results.md; an interrupted one continues."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME|list")]
    """Name of the experiment; list: list them all."""
    out: Path | None = None
    """Folder of its runs and results. Default: runs/NAME."""
    images: int | None = None
    """Images to train each model on, at least 1. Default: as in docs/results.md."""
    device: str | None = None
    """Device to compute on: cpu, cuda, or one of several GPUs, such as cuda:1. Default: cuda if there is one."""
    minutes: Annotated[float | None, ADVANCED] = None
    """family-comparison: CPU minutes to train each model, above 0. Default: 20."""
    n: Annotated[int | None, ADVANCED] = None
    """family-comparison: number of images and samples to measure, at least 2. Default: 5,000."""
    family: Annotated[Literal["fashion-mnist", "cats"] | None, ADVANCED] = None
    """family-comparison: only the models of these images. Default: both."""
    precision: Annotated[Literal["float32", "bfloat16"] | None, ADVANCED] = None
    """Number format of the networks' arithmetic. Default: bfloat16 where it is faster."""
    threads: Annotated[int | None, ADVANCED] = None
    """Number of processor threads, at least 1. Default: whatever is fastest now."""
    compile: Annotated[Literal["auto", "on", "off"], ADVANCED] = "auto"
    """Compile the training steps. auto: where it pays off."""


def main(words: Sequence[str]) -> int:
    options = parse(Experiment, "experiment", words)
    if options.name == "list":
        print("\n".join(f"{name:<20} {description}" for name, description in EXPERIMENTS.items()))
        return 0
    if options.name not in EXPERIMENTS:
        raise UserError(f"no experiment {options.name!r}: {nearest(options.name, EXPERIMENTS)}")

    import os

    from anamorph.cli.live import Stop
    from anamorph.cli.train import COMPILED
    from anamorph.training.autotune import ComputeRequest

    if hasattr(os, "nice"):
        os.nice(5)
    compute = ComputeRequest(options.device, options.precision, options.threads, COMPILED[options.compile])
    out = options.out or Path("runs") / options.name
    with Stop().listening() as stop:
        if _run(options, out, compute, stop):
            return 0
    note(f"stopped and saved in {out}: go on with the same command")
    return 130


def _run(options: Experiment, out: Path, compute: ComputeRequest, stop: Callable[[], bool]) -> bool:
    """Run the experiment; return whether it was finished."""
    if options.name == "mnist-probes":
        from anamorph.experiments.mnist_probes import IMAGES, mnist_probes

        return mnist_probes(out, compute, note, IMAGES if options.images is None else options.images, stop)
    if options.name in ("vae-mnist", "collapse"):
        from anamorph.experiments.likelihoods import collapse, vae_mnist

        return (collapse if options.name == "collapse" else vae_mnist)(out, compute, note, options.images, stop)
    if options.name.startswith("compression"):
        from anamorph.experiments.compression import COMPRESSION, compression_study

        return compression_study(COMPRESSION[options.name], out, compute, note, options.images, stop)
    if options.name == "speech":
        from anamorph.experiments.speech import SPEECH, speech_study

        first, prior = (
            stage if options.images is None else replace(stage, images=options.images) for stage in (SPEECH.first, SPEECH.prior)
        )
        return speech_study(replace(SPEECH, first=first, prior=prior), out, compute, note, stop)
    if options.name == "family-comparison":
        from anamorph.experiments.family import FAMILIES, MINUTES, family_comparison

        families = {name: family for name, family in FAMILIES.items() if options.family in (None, name)}
        return family_comparison(out, compute, note, options.minutes or MINUTES, options.n or 5000, families, stop=stop)
    if options.name.startswith("tokens-"):
        from anamorph.experiments.tokens import TOKENS, token_study

        tokens = TOKENS[options.name]
        if options.images is not None:
            first, prior = (replace(stage, images=options.images) for stage in (tokens.first, tokens.prior))
            tokens = replace(tokens, first=first, prior=prior)
        return token_study(tokens, out, compute, note, stop)
    from anamorph.experiments.cat_directions import DIRECTIONS, direction_study
    from anamorph.experiments.cats import STUDIES, factor_study

    run, study = (direction_study, DIRECTIONS) if options.name == "cats-directions" else (factor_study, STUDIES[options.name])
    study = study if options.images is None else replace(study, images=options.images)
    return run(study, out, compute, note, stop)
