"""Time metrics on features of 2,048 numbers.

Neighbours are timed against the NumPy code of `prdc`, and alone at 50,000 images with their memory. FID by eigenvalues is
timed against the general square root of a matrix.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import resource
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from anamorph.features.moments import Moments
from anamorph.metrics.frechet import frechet_distance
from anamorph.metrics.neighbours import nearest_neighbours, neighbour_scores
from turns import median_of, ratios, turns

WIDTH, K = 2048, 5
COMPARED, CHECKED = 10_000, 3_000
"""Images that are timed against `prdc`, and on which the two results are compared."""


def features(n: int, seed: int) -> Tensor:
    """Return features [n, WIDTH] like those of images: not negative, of unequal spread, with a mean far from zero."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randn(20, WIDTH, generator=torch.Generator().manual_seed(99)) * torch.linspace(1, 0.05, WIDTH)
    x = torch.empty(n, WIDTH)
    for start in range(0, n, 4096):
        part = x[start : start + 4096]
        part.normal_(generator=generator).mul_(torch.linspace(1, 0.05, WIDTH) * 0.7)
        part.add_(kinds[torch.randint(0, 20, (len(part),), generator=generator)]).add_(0.4).relu_()
    return x


def timed(do: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    do()
    return clock() - start


def ours(n: int) -> Iterator[float]:
    torch.set_num_threads(1)
    real, generated = features(n, 0), features(n, 1)
    while True:
        yield 1 / timed(lambda: neighbour_scores(real, generated, K, K), time.process_time)


def theirs(n: int) -> Iterator[float]:
    import prdc

    real, generated = features(n, 0).numpy(), features(n, 1).numpy()
    while True:
        with contextlib.redirect_stdout(io.StringIO()):
            seconds = timed(lambda: prdc.compute_prdc(real, generated, K), time.process_time)
        yield 1 / seconds


def compare(rounds: int) -> None:
    import prdc

    real, generated = features(CHECKED, 0), features(CHECKED, 1)
    with contextlib.redirect_stdout(io.StringIO()):
        wanted = prdc.compute_prdc(real.double().numpy(), generated.double().numpy(), K)
    got = neighbour_scores(real, generated, K, K)
    apart = max(abs(getattr(got, name) - float(value)) for name, value in wanted.items())
    print(f"largest difference from prdc at {CHECKED:,} images: {apart:.1e}", flush=True)
    rates = turns({"ours": partial(ours, COMPARED), "prdc": partial(theirs, COMPARED)}, rounds)
    for name, values in rates.items():
        print(f"{COMPARED:,} x {WIDTH}, {name}: {median_of([1 / r for r in values], 1)} s of CPU, on one thread", flush=True)
    print(f"prdc / ours: {ratios(rates['ours'], rates['prdc'])}", flush=True)


def alone(n: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    real, generated = features(n, 0), features(n, 1)
    cpu = time.process_time()
    seconds = timed(lambda: neighbour_scores(real, generated, K, K))
    cpu = time.process_time() - cpu
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{n:,} x {WIDTH}: all four in {seconds:.0f} s ({cpu:.0f} s of CPU)", flush=True)
    print(
        f"memory: {most:,.0f} MB at most, {before:,.0f} MB before there were features, which take {2 * real.nbytes >> 20:,} MB"
    )
    print(f"nearest of 1,000 in all: {timed(lambda: nearest_neighbours(generated[:1000], real)):.1f} s", flush=True)


def frechet(n: int) -> None:
    from scipy.linalg import sqrtm

    first, second = Moments(WIDTH), Moments(WIDTH)
    start = time.process_time()
    first.add(features(n, 0))
    second.add(features(n, 1))
    gathering = time.process_time() - start
    mine = timed(lambda: frechet_distance(first, second), time.process_time)
    distance = frechet_distance(first, second)
    a, b = first.covariance.numpy(), second.covariance.numpy()
    start = time.process_time()
    root = np.trace(sqrtm(a @ b).real)
    general = time.process_time() - start
    wanted = float((first.mean - second.mean).square().sum()) + np.trace(a) + np.trace(b) - 2 * root
    print(f"moments of 2 x {n:,} x {WIDTH}, with making the features: {gathering:.0f} s of CPU")
    print(
        f"FID {distance:.9g} in {mine:.1f} s of CPU; by scipy.linalg.sqrtm {wanted:.9g} in {general:.1f} s: "
        f"{general / mine:.1f} times"
    )
    print(f"relative difference {abs(distance - wanted) / wanted:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=50_000, help="images that neighbours alone and FID are timed on")
    parser.add_argument("--only", choices=("compare", "alone", "frechet"))
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if given.only in (None, "alone"):
        alone(given.images)
    if given.only in (None, "compare"):
        compare(given.rounds)
    if given.only in (None, "frechet"):
        frechet(given.images)


if __name__ == "__main__":
    main()
