"""Compressing and decompressing 100 images of 32 pixels, each into a file of its own; and one; and all into one file."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import TypeVar

import torch

from anamorph.catalog import build, build_with_prior
from anamorph.coding.compress import compress, decompress
from anamorph.core.model import Encodes
from anamorph.core.progress import quiet
from anamorph.core.signal import Image
from anamorph.models.vqvae import VQVAEConfig
from anamorph.models.vqvae2 import VQVAE2Config
from anamorph.priors.compose import Pixels, WithPrior
from anamorph.priors.pixelcnn import PixelCNNConfig
from anamorph.priors.pixelsnail import PixelSNAILConfig
from anamorph.training.machine import settle
from anamorph.training.run import Machine

T = TypeVar("T")
SIGNAL, N = Image(3, 32, 32), 100
CNN = PixelCNNConfig(width=64, layers=8, head=256)


def models() -> dict[str, WithPrior]:
    """With weights as they begin: they cost the same time as trained ones."""
    first, _ = build("vqvae", SIGNAL, VQVAEConfig(width=64), 0)
    second, _ = build("vqvae2", SIGNAL, VQVAE2Config(width=64, vocabulary=256, code_dim=32), 0)
    assert isinstance(first, Encodes)
    assert isinstance(second, Encodes)
    made = {
        "vqvae and pixelcnn (8x8 codes)": build_with_prior("pixelcnn", first, CNN, 0)[0],
        "vqvae2 and pixelsnail (4x4 and 8x8)": build_with_prior("pixelsnail", second, PixelSNAILConfig(), 0)[0],
        "pixels and pixelcnn (3x32x32)": build_with_prior("pixelcnn", Pixels(SIGNAL), PixelCNNConfig(width=63, head=255), 0)[0],
    }
    return {name: model.requires_grad_(False).eval() for name, model in made.items()}


def timed(work: Callable[[], T], rounds: int) -> tuple[str, T]:
    """Median and range of seconds, and what was found."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        found = work()
        times.append(time.perf_counter() - start)
    return f"{median(times):.2f} s ({min(times):.2f} to {max(times):.2f})", found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    settle(Machine(threads=1))
    x = torch.rand(N, *SIGNAL.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for name, model in models().items():
        rounds = 1 if "pixels" in name else options.rounds
        there, files = timed(lambda model=model: compress(model, x, progress=quiet), rounds)  # type: ignore[misc]
        back, _ = timed(lambda model=model, files=files: decompress(model, files), rounds)  # type: ignore[misc]
        one, _ = timed(lambda model=model, files=files: decompress(model, files[:1]), rounds)  # type: ignore[misc]
        whole, _ = timed(lambda model=model: compress(model, x, together=True), rounds)  # type: ignore[misc]
        print(
            f"{name}: {N} files written in {there}, read in {back}; one read in {one}; one file of all in {whole}", flush=True
        )


if __name__ == "__main__":
    main()
