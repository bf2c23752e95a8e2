"""Time compressing 100 images of 32 pixels, into a file each and into one, and decompressing them; and 4 without loss."""

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
from anamorph.core.signal import Batch, Image
from anamorph.core.stage import Constant
from anamorph.models.autoregressive.pixelcnn import PixelCNNConfig
from anamorph.models.autoregressive.pixelsnail import PixelSNAILConfig
from anamorph.models.quantized.vqvae import VQVAEConfig
from anamorph.models.quantized.vqvae2 import VQVAE2Config
from anamorph.models.two_stage import Pixels, TwoStageModel
from anamorph.training.autotune import apply_compute_settings
from anamorph.training.loop import train
from anamorph.training.run import ComputeSettings, Run

T = TypeVar("T")
SIGNAL, N, STEPS = Image(3, 32, 32), 100, 12
CNN = PixelCNNConfig(width=64, layers=8, head_channels=256)


class Noise:
    """A source of noise images."""

    signal, size, labels, fingerprint = SIGNAL, 1 << 20, (), "noise"

    def take(self, start: int, n: int, level: int = 0) -> Batch:
        return Batch(torch.rand(n, *SIGNAL.shape, generator=torch.Generator().manual_seed(start)) * 2 - 1)


def briefly_trained(name: str, config: object) -> Encodes:
    """Return a model after a few steps, so that its codes differ, as those of a trained one do."""
    model, recipe = build(name, SIGNAL, config, 0)
    assert isinstance(model, Encodes)
    for result in train(Run(model, recipe, Constant(32), 0, ComputeSettings()), Noise()):
        if result.step == STEPS:
            break
    return model


def models() -> dict[str, TwoStageModel]:
    """Return models that are hardly trained: they take as long as trained ones."""
    first = briefly_trained("vqvae", VQVAEConfig(width=64))
    second = briefly_trained("vqvae2", VQVAE2Config(width=64, num_embeddings=256, embedding_dim=32))
    made = {
        "vqvae and pixelcnn (8x8 codes)": build_with_prior("pixelcnn", first, CNN, 0)[0],
        "vqvae2 and pixelsnail (4x4 and 8x8)": build_with_prior("pixelsnail", second, PixelSNAILConfig(), 0)[0],
        "pixels and pixelcnn (3x32x32)": build_with_prior(
            "pixelcnn", Pixels(SIGNAL), PixelCNNConfig(width=63, head_channels=255), 0
        )[0],
    }
    return {name: model.requires_grad_(False).eval() for name, model in made.items()}


def timed(work: Callable[[], T], rounds: int) -> tuple[str, T]:
    """Return median and range of the seconds that work took, with the median of CPU seconds, and its last result."""
    times, busy = [], []
    for _ in range(rounds):
        start, cpu = time.perf_counter(), time.process_time()
        result = work()
        times.append(time.perf_counter() - start)
        busy.append(time.process_time() - cpu)
    return f"{median(times):.2f} s ({min(times):.2f} to {max(times):.2f}; {median(busy):.2f} of CPU)", result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="text in the names of the models to time; by default all are timed")
    options = parser.parse_args()
    apply_compute_settings(ComputeSettings(threads=1))
    every = Noise().take(0, N).signals
    for name, model in models().items():
        if options.only not in name:
            continue
        lossless = name.startswith("pixels")
        rounds, x = (1, every[:4]) if lossless else (options.rounds, every)
        there, files = timed(lambda model=model, x=x: compress(model, x), rounds)  # type: ignore[misc]
        back, _ = timed(lambda model=model, files=files: decompress(model, files), rounds)  # type: ignore[misc]
        one, _ = timed(lambda model=model, files=files: decompress(model, files[:1]), rounds)  # type: ignore[misc]
        whole, _ = timed(lambda model=model, x=x: compress(model, x, joint=True), rounds)  # type: ignore[misc]
        print(
            f"{name}: {len(x)} files written in {there}, read in {back}; one read in {one}; one file of all in {whole}",
            flush=True,
        )


if __name__ == "__main__":
    main()
