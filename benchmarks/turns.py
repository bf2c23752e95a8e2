"""Workers that take turns: each has its own process, and only one computes at a time.

A machine whose speed drifts is thus fair to all of them.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from statistics import median

__all__ = ["median_of", "ratios", "turns"]

Work = Callable[[], Iterator[float]]
"""Called in the worker process; each `next` does one portion of work and yields its rate, such as images per second."""


def _serve(make: Work, pipe: Connection) -> None:
    portions = make()
    while pipe.recv():
        pipe.send(next(portions))


def turns(workers: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """Return the rates of each worker in every round, after one round to warm up."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for name, make in workers.items():
        mine, its = context.Pipe()
        process = context.Process(target=_serve, args=(make, its), daemon=True)
        process.start()
        pipes[name] = mine
        processes.append(process)
    rates: dict[str, list[float]] = {name: [] for name in workers}
    for round_number in range(rounds + 1):
        for name, pipe in pipes.items():
            pipe.send(True)
            rate = pipe.recv()
            if round_number:
                rates[name].append(rate)
    for pipe in pipes.values():
        pipe.send(False)
    for process in processes:
        process.join()
    return rates


def median_of(values: list[float], digits: int = 0) -> str:
    """Return median and range as text."""
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def ratios(mine: list[float], theirs: list[float]) -> str:
    """Return the median over rounds of mine / theirs, and its range, as text."""
    return median_of([a / b for a, b in zip(mine, theirs, strict=True)], 2)
