"""Images per second of training MLP-ALAE on MNIST-sized images, batch 128."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from statistics import mean, stdev

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anamorph.catalog import build
from anamorph.core.errors import UserError
from anamorph.core.signal import Image
from anamorph.core.stage import Constant
from anamorph.data.images import Images, InMemory, images_of
from anamorph.data.open import open_source
from anamorph.metrics.probes import linear_svm_accuracy, nearest_neighbour_accuracy
from anamorph.models.adversarial_autoencoders.alae import ALAE, ALAEConfig
from anamorph.training.autotune import apply_compute_settings
from anamorph.training.loop import train
from anamorph.training.run import ComputeSettings, Precision, Run
from turns import median_of, ratios, turns

BATCH = 128
STEPS = 40
TIMED = 10
"""Steps of matrix products and memory traffic that are timed at once, for the limit."""
PROBED = 10_000
"""Images on which `--quality` fits its probes, and as many to test them."""


def data(split: str = "train") -> Images:
    """Return MNIST where it is available, and otherwise noise of its size, which takes as long."""
    try:
        return images_of(open_source("mnist", split=split))
    except UserError:
        import numpy as np

        noise = np.random.default_rng(0).integers(0, 256, (60_000, 1, 28, 28)).astype(np.uint8)
        return Images("noise", InMemory(noise), np.arange(60_000))


class PlainMapping(nn.Module):
    def __init__(self, layers: int, width: int, outputs: int, nonlinear: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width if i < layers - 1 else outputs) for i in range(layers))
        self.nonlinear = nonlinear

    def forward(self, x: Tensor) -> Tensor:
        if self.nonlinear:
            x = x * torch.rsqrt(torch.mean(x**2, dim=1, keepdim=True) + 1e-8)
        for layer in self.layers:
            x = layer(x)
            if self.nonlinear:
                x = F.leaky_relu(x, 0.2)
        return x


class PlainNet(nn.Module):
    def __init__(self, inputs: int, outputs: int, slope: float, last: float | None) -> None:
        super().__init__()
        self.fc_1, self.fc_2, self.fc_3 = nn.Linear(inputs, 1024), nn.Linear(1024, 1024), nn.Linear(1024, outputs)
        self.slope, self.last = slope, last

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.fc_1(x), self.slope)
        x = F.leaky_relu(self.fc_2(x), self.slope)
        x = self.fc_3(x)
        return x if self.last is None else F.leaky_relu(x, self.last)


class PlainAdam:
    """LREQAdam as one writes it down: one parameter after the other, one operation after the other."""

    def __init__(self, parameters: list[nn.Parameter], coefficients: list[float]) -> None:
        self.parameters, self.coefficients = parameters, coefficients
        self.second = [torch.zeros_like(p) for p in parameters]
        self.count = 0

    def zero_grad(self) -> None:
        for p in self.parameters:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad.zero_()

    @torch.no_grad()
    def step(self) -> None:
        self.count += 1
        rate = 0.002 * math.sqrt(1 - 0.99**self.count)
        for p, v, coefficient in zip(self.parameters, self.second, self.coefficients, strict=True):
            assert p.grad is not None
            v.mul_(0.99).addcmul_(p.grad, p.grad, value=0.01)
            p.addcdiv_(p.grad, v.sqrt().add_(1e-8), value=-rate * coefficient)


def plain(threads: int) -> Iterator[float]:
    """Yield the images/s of (a): the same maths as a plain eager float32 loop with unfused optimizers."""
    torch.set_num_threads(threads)
    mapping, critic = PlainMapping(6, 50, 50, True), PlainMapping(3, 50, 1, False)
    generator, encoder = PlainNet(50, 784, 0.01, None), PlainNet(784, 50, 0.2, 0.01)
    inward = [*encoder.parameters(), *critic.parameters()]
    outward = [*generator.parameters(), *mapping.parameters()]
    adam_in, adam_out = (PlainAdam(ps, [0.05] * len(ps)) for ps in (inward, outward))
    average = [p.detach().clone() for p in inward + outward]
    images = data().in_order()
    x = (images.take(0, images.size).signals.flatten(1) + 1) / 2
    step = 0
    while True:
        start = time.perf_counter()
        for _ in range(STEPS):
            real = x[(step * BATCH) % (len(x) - BATCH) :][:BATCH].clone().requires_grad_()
            adam_in.zero_grad()
            with torch.no_grad():
                fake = generator(mapping(torch.randn(BATCH, 50)))
            real_score = critic(encoder(real))[:, 0]
            (slope,) = torch.autograd.grad(real_score.sum(), real, create_graph=True)
            loss = F.softplus(critic(encoder(fake))[:, 0]) + F.softplus(-real_score) + 5 * slope.square().sum(1)
            loss.mean().backward()
            adam_in.step()
            adam_out.zero_grad()
            encoder.requires_grad_(False)
            F.softplus(-critic(encoder(generator(mapping(torch.randn(BATCH, 50)))))[:, 0]).mean().backward()
            encoder.requires_grad_(True)
            adam_out.step()
            adam_in.zero_grad()
            adam_out.zero_grad()
            w = mapping(torch.randn(BATCH, 50))
            (encoder(generator(w)) - w.detach()).square().mean().backward()
            adam_in.step()
            adam_out.step()
            with torch.no_grad():
                for mine, its in zip(average, inward + outward, strict=True):
                    mine.lerp_(its, 1 - 0.5 ** (BATCH / 10_000))
            step += 1
        yield STEPS * BATCH / (time.perf_counter() - start)


def make_run(precision: Precision, threads: int, compiled: bool, seed: int = 0) -> Run:
    machine = ComputeSettings("cpu", precision, threads, compiled)
    apply_compute_settings(machine)
    model, recipe = build("alae", Image(1, 28, 28), ALAEConfig(), seed)
    return Run(model, recipe, Constant(BATCH), seed, machine)


def ours(precision: Precision, threads: int, compiled: bool) -> Iterator[float]:
    """Yield the images/s of (b) and (c): the library's own loop."""
    results = train(make_run(precision, threads, compiled), data())
    for _ in islice(results, 5):
        pass
    while True:
        start = time.perf_counter()
        for _ in islice(results, STEPS):
            pass
        yield STEPS * BATCH / (time.perf_counter() - start)


def limit(precision: Precision, threads: int) -> Iterator[float]:
    """Yield the images/s that the matrix products of the two wide nets and the optimizers' memory traffic alone allow.

    A step has 9 passes of 128 rows through G or E in the critic's phase, 5 in the generator's, and 6 in reciprocity. A pass
    is one product with each of a net's three matrices; the backward of a pass is two. The optimizers sweep 4 + 1 times over
    3.8 M parameters.
    """
    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    sizes = [(784, 1024), (1024, 1024), (1024, 50)]
    passes = [(torch.randn(BATCH, a).to(dtype), torch.randn(a, b).to(dtype)) for a, b in sizes]
    p, g, v = (torch.randn(1_900_000) for _ in range(3))
    while True:
        start = time.perf_counter()
        for _ in range(TIMED):
            for _ in range(20):
                for x, weight in passes:
                    x @ weight
            for _ in range(4):  # reads p, g, v and writes p, v, as the fewest operations that torch has for it
                torch.add(p, g, out=p)
                torch.mul(v, v, out=v)
            torch.lerp(p, v, 0.5, out=p)
            torch.lerp(p, g, 0.5, out=p)
        yield TIMED * BATCH / (time.perf_counter() - start)


def quality(threads: int, images: int) -> None:
    """Print 1-NN and SVM accuracy of both precisions after the same images, over three seeds."""
    known, held = data().in_order(), data("test").in_order()
    for precision in ("float32", "bfloat16"):
        rows = []
        for seed in range(3):
            run = make_run(precision, threads, True, seed)
            for _ in islice(train(run, data()), images // BATCH):
                pass
            rows.append(_probe(run, known, held))
            print(f"{precision}, seed {seed}: " + "  ".join(f"{100 * value:.2f}" for value in rows[-1]), flush=True)
        spread = "  ".join(f"{100 * mean(v):.2f} ± {100 * stdev(v):.2f}" for v in zip(*rows, strict=True))
        print(f"{precision}, {images:,} images: 1-NN, SVM short; 1-NN, SVM long: {spread}", flush=True)


@torch.no_grad()
def _probe(run: Run, known: Images, held: Images) -> list[float]:
    model = run.ema.model
    assert isinstance(model, ALAE)
    (x, y), (test_x, test_y) = ((b.signals, b.labels["class"]) for b in (known.take(0, PROBED), held.take(0, PROBED)))
    accuracies = []
    for read in (lambda image: model.encode(image)["w"], model.features):
        codes = (read(x), y, read(test_x), test_y)
        accuracies += [nearest_neighbour_accuracy(*codes), linear_svm_accuracy(*codes)]
    return accuracies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quality", action="store_true")
    parser.add_argument("--images", type=int, default=300_000, help="images that --quality trains on")
    options = parser.parse_args()
    if options.quality:
        quality(options.threads, options.images)
        return
    workers = {
        "a plain float32": partial(plain, options.threads),
        "b ours float32": partial(ours, "float32", options.threads, True),
        "c ours bfloat16": partial(ours, "bfloat16", options.threads, True),
        "  ours float32, not compiled": partial(ours, "float32", options.threads, False),
        "  ours bfloat16, not compiled": partial(ours, "bfloat16", options.threads, False),
        "  limit float32": partial(limit, "float32", options.threads),
        "  limit bfloat16": partial(limit, "bfloat16", options.threads),
    }
    rates = turns(workers, options.rounds)
    print(f"MLP-ALAE, 28x28, batch {BATCH}, {options.threads} threads: images/s and ratio to a, median (range)")
    for name, values in rates.items():
        print(f"{name:<32} {median_of(values):<28} {ratios(values, rates['a plain float32'])}")


if __name__ == "__main__":
    main()
