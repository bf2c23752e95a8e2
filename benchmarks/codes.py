"""Time incremental sampling of codes against naive sampling, the search for the nearest code, and training a VQ-VAE-2."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from anamorph.catalog import build
from anamorph.core.prior import SamplingSettings
from anamorph.core.random import Seeded
from anamorph.core.signal import Batch, Image
from anamorph.core.space import Space
from anamorph.core.stage import Constant
from anamorph.models.autoregressive.common import Autoregressive
from anamorph.models.autoregressive.pixelcnn import PixelCNN, PixelCNNConfig
from anamorph.models.autoregressive.pixelsnail import PixelSNAIL, PixelSNAILConfig
from anamorph.models.quantized.vqvae2 import VQVAE2Config
from anamorph.nn.incremental import sample_from_logits
from anamorph.nn.quantize import Codebook
from anamorph.training.autotune import apply_compute_settings
from anamorph.training.loop import train
from anamorph.training.run import ComputeSettings, Run
from turns import median_of, ratios, turns

N, K = 16, 512
SIDES = (8, 16, 32)
"""Of the grids that are sampled."""
SEARCHED = 65_536
"""Vectors whose nearest code is searched for."""
SECONDS = 1.5
"""Least seconds of training between two measurements."""
PRIORS = {
    "pixelcnn": (PixelCNN, PixelCNNConfig(width=64, layers=12)),
    "pixelsnail": (PixelSNAIL, PixelSNAILConfig(width=128, residual_channels=128, blocks=2, residual_blocks=4)),
}


def make_prior(name: str, side: int) -> Autoregressive:
    torch.manual_seed(0)
    make, config = PRIORS[name]
    net: Autoregressive = make([Space("codes", (1, side, side), K)], [], config).eval()
    return net


@torch.no_grad()
def sampling(name: str, side: int, naive_places: int) -> None:
    """Time 16 grids, place by place and naively, by running the net over the whole grid for each place.

    Only some places are run naively, spread evenly, since each takes the same time.
    """
    net = make_prior(name, side)
    start = time.perf_counter()
    codes = net.sample(N, Seeded(0, "draw"))["codes"]
    cached = time.perf_counter() - start
    chances = Seeded(0, "draw").uniform(N, 1, side, side)
    places = [i * (side * side - 1) // (naive_places - 1) for i in range(naive_places)]
    start = time.perf_counter()
    for place in places:
        r, c = divmod(place, side)
        ids = codes.clone()
        ids.flatten(2)[:, :, place:] = 0  # not sampled yet
        sampled = sample_from_logits(net.logits(ids, {})[:, 0, r, c], chances[:, 0, r, c], SamplingSettings())
        assert float((sampled == codes[:, 0, r, c]).float().mean()) > 0.9  # the same codes, but for ties in rounding
    naive = (time.perf_counter() - start) / naive_places * side * side
    print(
        f"{name} at {side}x{side}, {N} grids: {cached:.2f} s place by place, {naive:.1f} s naively "
        f"({naive_places} of {side * side} places run): {naive / cached:.0f} times",
        flush=True,
    )


def plain_search(z: Tensor, vectors: Tensor) -> Tensor:
    return torch.cdist(z, vectors).argmin(1)


def searching(which: str, k: int) -> None:
    """Print the seconds and the memory in MB of one kind of search. It runs in a process of its own, which has its own peak."""
    torch.manual_seed(0)
    z, book = torch.randn(SEARCHED, 64), Codebook(k, 64)
    search = book.nearest if which == "ours" else partial(plain_search, vectors=book.vectors)
    search(z[:1024])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(5):
        start = time.perf_counter()
        search(z)
        times.append(time.perf_counter() - start)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{median(times):.4f} {peak:.1f}")


def search(threads: int) -> None:
    for k in (512, 8192):
        results = {}
        for which in ("plain", "ours"):
            command = [sys.executable, __file__, "--one", which, "--k", str(k), "--threads", str(threads)]
            seconds, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            results[which] = float(seconds), float(peak)
        (a, m), (b, o) = results["plain"], results["ours"]
        print(
            f"search of {SEARCHED:,} x 64 in {k}: cdist and argmin {a * 1000:.0f} ms and {m:.0f} MB more than before, "
            f"ours {b * 1000:.0f} ms and {o:.0f} MB: {a / b:.1f} times as fast, {o / m:.3f} of the memory",
            flush=True,
        )


class Noise:
    """A source of noise images."""

    def __init__(self, side: int) -> None:
        self.signal, self.size, self.labels, self.fingerprint = Image(3, side, side), 1024, (), "noise"
        self.pixels = torch.rand(256, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def take(self, start: int, n: int, level: int = 0) -> Batch:
        return Batch(self.pixels[(start + torch.arange(n)) % len(self.pixels)])


def plain_worker(batch: int, threads: int) -> Iterator[float]:
    """An eager float32 transcription: one-hot codes, distances as a matrix, torch's own Adam."""
    apply_compute_settings(ComputeSettings(threads=threads))
    source = Noise(64)
    model: Any = build("vqvae2", source.signal, VQVAE2Config(restart_threshold=0.0, kmeans_init=False), 0)[0]
    for level in model.coarse_first:
        level.codebook.forward = partial(_one_hot_quantize, level.codebook)
    adam = torch.optim.Adam(model.parameters(), lr=3e-4)

    def step(number: int) -> None:
        x = source.take(number * batch, batch).signals
        quantized = model.quantize(x)
        out = model.decode_vectors([q.vectors for q in quantized])
        loss = (out - x).square().mean() + 0.25 * sum(q.commitment_loss for q in quantized)
        adam.zero_grad()
        loss.backward()
        adam.step()

    return _rates(step, batch)


def _rates(step: Callable[[int], None], batch: int) -> Iterator[float]:
    """Yield images per second, each over at least `SECONDS`."""
    number = 0
    while True:
        start, first = time.perf_counter(), number
        while number == first or time.perf_counter() - start < SECONDS:
            step(number)
            number += 1
        yield (number - first) * batch / (time.perf_counter() - start)


def _one_hot_quantize(book: Any, z: Tensor, random: Any = None) -> Any:
    """Quantize as the published code does."""
    from anamorph.nn.quantize import QuantizerOutput

    flat = z.reshape(-1, book.dim)
    codes = book.vectors.t()
    distances = flat.pow(2).sum(1, keepdim=True) - 2 * flat @ codes + codes.pow(2).sum(0, keepdim=True)
    ids = (-distances).max(1).indices
    one_hot = torch.nn.functional.one_hot(ids, book.num_embeddings).type(flat.dtype)
    ids = ids.view(z.shape[:-1])
    chosen = torch.nn.functional.embedding(ids, book.vectors)
    with torch.no_grad():
        book.counts.mul_(book.decay).add_(one_hot.sum(0), alpha=1 - book.decay)
        book.sums.mul_(book.decay).add_(one_hot.t() @ flat, alpha=1 - book.decay)
        total = book.counts.sum()
        smoothed = (book.counts + 1e-5) / (total + book.num_embeddings * 1e-5) * total
        book.vectors.copy_(book.sums / smoothed[:, None])
    return QuantizerOutput(z + (chosen - z).detach(), ids, (chosen.detach() - z).square().mean(), z.new_zeros(()))


def our_worker(batch: int, threads: int) -> Iterator[float]:
    source, machine = Noise(64), ComputeSettings(precision="bfloat16", threads=threads, compiled=True)
    apply_compute_settings(machine)
    model, recipe = build("vqvae2", source.signal, VQVAE2Config(restart_threshold=0.0, kmeans_init=False), 0)
    results = train(Run(model, recipe, Constant(batch), 0, machine), source)
    next(results)
    return _rates(lambda number: _discard(next(results)), batch)


def _discard(result: object) -> None:
    pass


def training(batch: int, threads: int, rounds: int) -> None:
    rates = turns({"a": partial(plain_worker, batch, threads), "b": partial(our_worker, batch, threads)}, rounds)
    print(
        f"vqvae2 at 64 px, batch {batch}, {threads} thread(s): {median_of(rates['a'])} images/s plainly, "
        f"{median_of(rates['b'])} ours: {ratios(rates['b'], rates['a'])} times",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["sampling", "search", "training"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--places", type=int, default=8, help="places of a grid that are sampled naively")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--k", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one:
        searching(options.one, options.k)
        return
    if "search" in options.what:
        search(options.threads)
    if "training" in options.what:
        training(32, options.threads, options.rounds)
    if "sampling" in options.what:
        for name in PRIORS:
            for side in SIDES:
                sampling(name, side, options.places)


if __name__ == "__main__":
    main()
