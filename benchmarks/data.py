"""Time reading batches from the cache against what training consumes, and building the cache against Pillow alone."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image as Pillow

from anamorph.catalog import build
from anamorph.core.signal import Image
from anamorph.core.stage import Constant
from anamorph.data.images import Images, images_of
from anamorph.data.open import ReadOptions, open_source
from anamorph.models.adversarial_autoencoders.alae import ALAEConfig
from anamorph.training.autotune import apply_compute_settings
from anamorph.training.loop import train
from anamorph.training.run import ComputeSettings, Run
from turns import median_of, ratios, turns

BATCH = 128
SIDES = {28: 20_000, 64: 10_000, 256: 2_000}
"""Images of each side in the cache."""
PHOTOS = 400
PHOTO_SIDES = {"jpg": 1024, "png": 512}
TARGETS = (64, 256)
"""Sides to which photographs are resized."""
SECONDS = 3.0
"""Seconds for which `take` is timed."""


def photograph(seed: int, side: int) -> Pillow.Image:
    """Return smooth blobs under grain, which compress about as a photograph does."""
    random = np.random.default_rng(seed)
    blobs = random.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    grain = random.normal(0, 6, (side, side, 3))
    large = np.asarray(Pillow.fromarray(blobs).resize((side, side), Pillow.Resampling.BICUBIC))
    return Pillow.fromarray(np.clip(large + grain, 0, 255).astype(np.uint8))


def cached_images(folder: Path, side: int) -> Images:
    """Make a folder of images of one side, open it, and so cache it: a hundred images, each linked to many times."""
    target = folder / str(side)
    if not target.is_dir():
        target.mkdir()
        for i in range(100):
            photograph(i, side).save(target / f"{i:05d}.png", compress_level=1)
        for i in range(100, SIDES[side]):
            os.link(target / f"{i % 100:05d}.png", target / f"{i:05d}.png")
    return images_of(open_source(str(target)))


def take(source: Images) -> float:
    """Return the images/s of `take` in the order of training."""
    for i in range(20):
        source.take(i * BATCH, BATCH)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        source.take(count, BATCH)
        count += BATCH
    return count / (time.perf_counter() - start)


def consumption(source: Images) -> float:
    """Return the images/s that training `alae` consumes: the smallest model, at its fastest."""
    machine = ComputeSettings("cpu", "bfloat16", os.cpu_count() or 1, compiled=True)
    apply_compute_settings(machine)
    model, recipe = build("alae", source.signal, ALAEConfig(), 0)
    results = train(Run(model, recipe, Constant(BATCH), 0, machine), source)
    for _ in islice(results, 3):
        pass
    rates = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in islice(results, 2):
            pass
        rates.append(2 * BATCH / (time.perf_counter() - start))
    return median(rates)


def ours(folder: str, side: int) -> Iterator[float]:
    """Yield the images per CPU second of building a cache from nothing, with all its threads."""
    while True:
        with tempfile.TemporaryDirectory() as cache:
            os.environ["ANAMORPH_CACHE"] = cache
            start = time.process_time()
            open_source(folder, ReadOptions((side, side), 3))
            yield PHOTOS / (time.process_time() - start)


def bare(folder: str, side: int) -> Iterator[float]:
    """Yield the images per CPU second of a bare Pillow loop with the same draft, resize and bytes written."""
    while True:
        start = time.process_time()
        with tempfile.TemporaryFile() as out:
            for path in sorted(Path(folder).iterdir()):
                with Pillow.open(path) as image:
                    image.draft(None, (2 * side, 2 * side))
                    small = image.convert("RGB").resize((side, side), Pillow.Resampling.LANCZOS, reducing_gap=2.0)
                    out.write(np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1)).tobytes())
        yield PHOTOS / (time.process_time() - start)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["ANAMORPH_CACHE"] = str(folder / "cache")
        print(f"take({BATCH}) from the cache, RGB, in the order of training, against `alae` in bfloat16, compiled:")
        for side in SIDES:
            source = cached_images(folder, side)
            assert source.signal == Image(3, side, side)
            given, used = take(source), consumption(source)
            print(
                f"  {side:>3} px: {given:>9,.0f} images/s; training consumes {used:>7,.0f}; ratio {given / used:,.0f}",
                flush=True,
            )
        for kind, side in PHOTO_SIDES.items():
            photos = folder / kind
            photos.mkdir()
            for i in range(PHOTOS):
                photograph(i, side).save(photos / f"{i:04d}.{kind}")
            for target in TARGETS:
                workers = {"ours": partial(ours, str(photos), target), "bare": partial(bare, str(photos), target)}
                rates = turns(workers, 5)
                print(
                    f"building the cache, {kind} of {side} px to {target}: {median_of(rates['ours'])} images per CPU second; "
                    f"ratio to a Pillow loop {ratios(rates['ours'], rates['bare'])}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
