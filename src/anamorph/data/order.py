"""Which example stands at which position: each epoch another permutation, a function of (seed, epoch)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["Integers", "coins", "held_out", "indices"]

Integers = NDArray[np.int64]


@lru_cache(maxsize=4)
def _permutation(size: int, seed: int, epoch: int) -> Integers:
    return np.random.Generator(np.random.Philox(key=[seed % 2**64, epoch])).permutation(size)


@lru_cache(maxsize=4)
def _tosses(size: int, seed: int, epoch: int) -> NDArray[np.bool_]:
    generator = np.random.Generator(np.random.Philox(key=[seed % 2**64, epoch], counter=[0, 0, 0, 1]))
    return generator.integers(0, 2, size, dtype=np.bool_)


def indices(size: int, start: int, count: int, seed: int | None) -> Integers:
    """Return the examples [count] at positions start .. start + count - 1; seed None: in their own order, over and over."""
    positions = np.arange(start, start + count, dtype=np.int64)
    if seed is None:
        return positions % size
    epochs, places = np.divmod(positions, size)
    picked = np.empty(count, np.int64)
    for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
        here = epochs == epoch
        picked[here] = _permutation(size, seed, epoch)[places[here]]
    return picked


def coins(size: int, start: int, count: int, seed: int) -> NDArray[np.bool_]:
    """Return one fair coin [count] for each position."""
    epochs, places = np.divmod(np.arange(start, start + count, dtype=np.int64), size)
    return np.array([_tosses(size, seed, int(e))[p] for e, p in zip(epochs, places, strict=True)], np.bool_)


def held_out(size: int, every: int = 10) -> NDArray[np.bool_]:
    """Which of `size` examples are held out for testing: a tenth, by a fixed hash of the index, at least one of two or more."""
    mixed = np.arange(size, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64 (Steele et al. 2014)
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    chosen = (mixed ^ (mixed >> np.uint64(31))) % np.uint64(every) == 0
    if size > 1 and not chosen.any():
        chosen[-1] = True
    return chosen
