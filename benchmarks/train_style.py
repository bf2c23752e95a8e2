"""Images per second of training StyleALAE and StyleGAN, level by level; how long an encoder and a decoder take for one image;
and the peak memory of the presets."""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from statistics import mean, median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from anamorph.catalog import build
from anamorph.core.optimizer import Adam
from anamorph.core.random import Seeded
from anamorph.core.signal import Batch, Image
from anamorph.core.stage import Constant
from anamorph.models.adversarial import stylegan
from anamorph.models.adversarial_autoencoders import stylealae
from anamorph.models.adversarial_autoencoders.stylealae import StyleALAE
from anamorph.nn import synthesis
from anamorph.nn.resample import downsample, upsample
from anamorph.presets import PRESETS, preset
from anamorph.training.autotune import apply_compute_settings
from anamorph.training.loop import train
from anamorph.training.run import ComputeSettings, Precision, Run
from turns import median_of, ratios, turns

SIDES = {8: 128, 16: 64, 32: 32, 64: 32, 128: 16}
"""Side -> batch, as in the presets."""
SECONDS = 1.5
"""Least seconds of training between two measurements."""


def settings(name: str, side: int) -> Any:
    """The preset's network for processors: 32 up to 32 px, 64 above."""
    return preset(name, 32 if side <= 32 else 64).config


class Noise:
    """A source of noise images."""

    def __init__(self, side: int) -> None:
        self.signal, self.size, self.labels, self.fingerprint = Image(3, side, side), 1024, (), "noise"
        self.pixels = torch.rand(128 if side < 256 else 8, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def take(self, start: int, n: int, level: int = 0) -> Batch:
        return Batch(downsample(self.pixels[(start + torch.arange(n)) % len(self.pixels)], level))


def be_plain() -> None:
    """Make the library compute as the published code does, with the same maths.

    Convolutions and resizing are separate operations, blurs are depthwise, and the optimizer steps one parameter at a time.
    """

    def upsample_conv(x: Tensor, weight: Tensor, flipped: bool = False) -> Tensor:
        return F.conv2d(upsample(x), weight.flip(2, 3) if flipped else weight, padding=1)

    def downsample_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return downsample(F.conv2d(x, weight, bias, padding=1))

    def blur(x: Tensor) -> Tensor:
        row = torch.tensor([1.0, 2.0, 1.0])
        kernel = (row[:, None] * row / 16).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(x, kernel, padding=1, groups=x.shape[1])

    @torch.no_grad()
    def step(self: Adam, gradients: list[Tensor | None], scale: float = 1.0, missing_gradient: str = "skip") -> None:
        for i, (p, g) in enumerate(zip(self.parameters, gradients, strict=True)):
            g = torch.zeros_like(p) if g is None else g
            state = counts.setdefault(p, [0, torch.zeros_like(p)])
            state[0] += 1
            second: Any = state[1]
            second.mul_(0.99).addcmul_(g, g, value=0.01)
            rate = self.learning_rate * scale * self.lr_multipliers[i] * math.sqrt(1 - 0.99 ** state[0])
            p.addcdiv_(g, second.sqrt().add_(self.eps[i]), value=-rate)

    counts: dict[Tensor, list[Any]] = {}
    for module in (stylealae, stylegan, synthesis):
        for name, function in (("upsample_conv", upsample_conv), ("downsample_conv", downsample_conv), ("blur", blur)):
            if hasattr(module, name):
                setattr(module, name, function)
    Adam.step = step  # type: ignore[method-assign,assignment]


def make_run(name: str, side: int, machine: ComputeSettings, seed: int = 0) -> Run:
    apply_compute_settings(machine)
    model, recipe = build(name, Image(3, side, side), settings(name, side), seed)
    return Run(model, recipe, Constant(SIDES[side]), seed, machine)


def worker(name: str, side: int, threads: int, precision: Precision, compiled: bool, plain: bool) -> Iterator[float]:
    """Yield the images per second of about a second of training each."""
    if plain:
        be_plain()
    results = train(make_run(name, side, ComputeSettings("cpu", precision, threads, compiled)), Noise(side))
    for _ in islice(results, 2):
        pass
    while True:
        start, steps = time.perf_counter(), 0
        while time.perf_counter() - start < SECONDS:
            next(results)
            steps += 1
        yield steps * SIDES[side] / (time.perf_counter() - start)


def speed(names: list[str], sides: list[int], threads: int, rounds: int) -> None:
    for name in names:
        for side in sides:
            workers = {
                "a": partial(worker, name, side, threads, "float32", False, True),
                "b": partial(worker, name, side, threads, "bfloat16", True, False),
            }
            rates = turns(workers, rounds)
            print(
                f"{name} at {side:>3} px, batch {SIDES[side]}, {threads} thread{'s' * (threads > 1)}: (a) plain eager float32 "
                f"{median_of(rates['a'], 1)} images/s, (b) ours {median_of(rates['b'], 1)} images/s; b / a "
                f"{ratios(rates['b'], rates['a'])}",
                flush=True,
            )


def losses(name: str, side: int, threads: int, images: int, plain: bool, seed: int) -> dict[str, float]:
    """Each loss's mean over the later half of the images."""
    from anamorph.data.open import ReadOptions, open_source

    if plain:
        be_plain()
    machine = ComputeSettings("cpu", "float32" if plain else "bfloat16", threads, not plain)
    run, values = make_run(name, side, machine, seed), dict[str, list[float]]()
    for result in train(run, open_source("avatars-cats", ReadOptions((side, side)), seed=seed)):
        for term, value in result.losses.items():
            values.setdefault(term, []).append(value)
        if run.images >= images:
            break
    return {term: mean(of_term[len(of_term) // 2 :]) for term, of_term in values.items()}


def curves(name: str, side: int, threads: int, images: int) -> None:
    """Print the losses of (a) and (b) over three seeds, each trained in a process of its own.

    They show whether the two differ by more than seeds do.
    """
    context = multiprocessing.get_context("spawn")
    losses_of = {}
    for arm, plain in (("a", True), ("b", False)):
        with context.Pool(1, maxtasksperchild=1) as pool:
            losses_of[arm] = [pool.apply(losses, (name, side, threads, images, plain, seed)) for seed in (0, 1, 2)]
    for term in losses_of["a"][0]:
        means = {arm: ", ".join(f"{row[term]:.3f}" for row in rows) for arm, rows in losses_of.items()}
        print(
            f"{name} at {side} px, {term}, mean over the later half of {images:,} images, seeds 0, 1, 2: "
            f"(a) {means['a']}; (b) {means['b']}",
            flush=True,
        )


@torch.no_grad()
def single(rounds: int) -> None:
    """Time one image through encoder and decoder, on one thread, beside its convolutions alone."""
    apply_compute_settings(ComputeSettings("cpu", "float32", 1))
    model, _ = build("stylealae", Image(3, 64, 64), settings("stylealae", 64), 0)
    assert isinstance(model, StyleALAE)
    model = model.requires_grad_(False).eval()
    x = Seeded(0, "image").normal(1, 3, 64, 64)
    calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
    kept = F.conv2d, F.conv_transpose2d

    def noted(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            calls.append((function, arguments, options))
            return function(*arguments, **options)

        return call

    F.conv2d, F.conv_transpose2d = map(noted, kept)
    model.decode(model.encode(x))
    F.conv2d, F.conv_transpose2d = kept

    def again() -> None:
        for function, arguments, options in calls:
            function(*arguments, **options)

    def milliseconds(work: Any) -> list[float]:
        times = []
        for _ in range(20):
            start = time.perf_counter()
            work()
            times.append(1000 * (time.perf_counter() - start))
        return times[3:]

    whole, bare = [], []
    for _ in range(rounds):  # in turns, each often enough to find its data in the cache
        whole += milliseconds(lambda: model.decode(model.encode(x)))
        bare += milliseconds(again)
    print(
        f"encode and decode one 64-px image, one thread: {median(whole):.1f} ms, "
        f"{median(whole) / median(bare):.2f} times its {len(calls)} convolutions alone"
    )


def peak(name: str, size: int, batch: int) -> float:
    """Return the peak memory, in MB, of two steps of a preset at its full size, in a process of its own."""
    command = [sys.executable, __file__, "--one", name, "--sides", str(size), "--images", str(batch)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def one(name: str, size: int, batch: int) -> None:
    apply_compute_settings(ComputeSettings("cpu", "float32", 1))
    model, recipe = build(name, Image(3, size, size), preset(name, size).config, 0)
    run = Run(model, recipe, Constant(batch), 0, ComputeSettings("cpu", "float32", 1))
    for _ in islice(train(run, Noise(size)), 2):
        pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def memory(sizes: list[int]) -> None:
    """Print the peak memory of presets at the last level, extrapolated in a straight line from batches of 4 and 8."""
    for p in PRESETS:
        if p.size not in sizes:
            continue
        batch = p.growing.at(p.images).batch
        low, high = peak(p.model, p.size, 4), peak(p.model, p.size, 8)
        straight = low + (high - low) / 4 * (batch - 4)
        print(f"{p.model} --preset {p.size}, batch {batch}, float32: {straight / 1024:.1f} GiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["stylealae", "stylegan"])
    parser.add_argument("--sides", nargs="+", type=int, default=[8, 16, 32, 64, 128])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--curves", action="store_true", help="compare losses over 20,000 images instead")
    parser.add_argument("--single", action="store_true", help="time one image through encoder and decoder instead")
    parser.add_argument("--memory", action="store_true", help="measure the presets of these sizes instead")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one, options.sides[0], options.images)
    elif options.curves:
        for name in options.models:
            curves(name, options.sides[0], options.threads, options.images)
    elif options.single:
        single(10)
    elif options.memory:
        memory(options.sides)
    else:
        speed(options.models, options.sides, options.threads, options.rounds)


if __name__ == "__main__":
    main()
