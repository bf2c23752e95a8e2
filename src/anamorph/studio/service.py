"""The runs that a studio shows, and a worker for each whose model is loaded."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from anamorph.core.errors import UserError, nearest
from anamorph.core.space import Codes
from anamorph.runs import load
from anamorph.studio.bench import Bench
from anamorph.studio.limits import CODES_BYTES, JOBS, MODELS, UPLOADED_BYTES
from anamorph.studio.stores import Store
from anamorph.studio.worker import Worker
from anamorph.training.folder import RunFolder

__all__ = ["Service", "find_runs"]

SEARCH_DEPTH = 4
"""Levels of folders in which runs are searched for."""


def find_runs(paths: Sequence[Path]) -> dict[str, Path]:
    """Find runs in folders, and in the folders within them; return them by short names that can be part of an address.

    Raises:
        UserError: if a folder does not exist, or there is no run.
    """
    runs: list[Path] = []
    for path in paths:
        if not path.is_dir():
            raise UserError(f"there is no folder {path}: name the folder of a run, or one that contains runs")
        runs += [run for run in _runs_in(path.resolve(), SEARCH_DEPTH) if run not in runs]
    if not runs:
        raise UserError(f"there is no run in {', '.join(map(str, paths))}: `anamorph train` or `anamorph demo` makes one")
    named: dict[str, Path] = {}
    for run in runs:
        name = _name(run.name)
        if name in named:
            name = _name(f"{run.parent.name}-{run.name}")
        unique = next(n for n in [name, *(f"{name}-{i}" for i in range(2, len(runs) + 2))] if n not in named)
        named[unique] = run
    return named


def _runs_in(path: Path, depth: int) -> Iterator[Path]:
    """Yield the runs in a folder; those within a run are not searched for."""
    if RunFolder(path).exists:
        yield path
    elif depth:
        for inner in sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".") and not p.is_symlink()):
            yield from _runs_in(inner, depth - 1)


def _name(text: str) -> str:
    """Return a text without characters that have a meaning in addresses."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "run"


class Service:
    """Runs by name, and a worker for each whose model is in use. It is thread-safe.

    Args:
        runs: folders of runs, by name.
        max_models: models in memory; the least recently used is closed first.
    """

    def __init__(self, runs: dict[str, Path], max_models: int = MODELS) -> None:
        self.runs, self._max_models = dict(runs), max_models
        self.files: Store[bytes] = Store(UPLOADED_BYTES, len)
        self.stored_codes: Store[Codes] = Store(CODES_BYTES, _bytes_of)
        self.jobs = threading.BoundedSemaphore(JOBS)
        self._workers: OrderedDict[str, tuple[str, Worker]] = OrderedDict()
        self._lock = threading.Lock()

    def path(self, run: str) -> Path:
        """Return the folder of a run. No other folder can be named.

        Raises:
            UserError: for an unknown name.
        """
        if run not in self.runs:
            raise UserError(f"no run {run!r}: {nearest(run, self.runs)}")
        return self.runs[run]

    def worker(self, run: str, renew: bool = False) -> Worker:
        """Return the worker that has a run's model. renew: whether a newer checkpoint is loaded, if there is one.

        Raises:
            UserError: for an unknown name.
        """
        path = self.path(run)
        with self._lock:
            version, worker = self._workers.get(run, ("", None))
            if worker is None or (renew and version != _version(path)):
                if worker is not None:
                    worker.close()
                worker = Worker(lambda: Bench(load(path), path, self.files, self.stored_codes), run)
                self._workers[run] = _version(path), worker
            self._workers.move_to_end(run)
            while len(self._workers) > self._max_models:
                self._workers.popitem(last=False)[1][1].close()
            return worker

    def listed(self) -> list[dict[str, Any]]:
        """Describe the runs, without loading their models."""
        return [{"id": name, **_summary(path)} for name, path in self.runs.items()]

    def close(self) -> None:
        """Close all workers."""
        with self._lock:
            for _, worker in self._workers.values():
                worker.close()
            self._workers.clear()


def _bytes_of(codes: Codes) -> int:
    return sum(value.numel() * value.element_size() for value in codes.values())


def _version(path: Path) -> str:
    """Return a text that identifies the checkpoint that would be loaded; empty if there is none."""
    folder = RunFolder(path)
    checkpoint = folder.best if folder.best.is_file() else next(iter(folder.checkpoint_files()), None)
    return f"{checkpoint.name} {checkpoint.stat().st_mtime_ns}" if checkpoint else ""


def _summary(path: Path) -> dict[str, Any]:
    """Describe a run by its config and its checkpoints' names; with the problem, if its config cannot be read."""
    try:
        config = RunFolder(path).config()
        seen = next((int(p.name[:12]) for p in RunFolder(path).checkpoint_files()), None)
        signal = config.get("signal", {})
        values = {"model": str(config.get("model", "?")), "seen": seen, "total": config.get("images"), "signal": signal}
    except (UserError, OSError, ValueError) as error:
        values = {"model": "?", "seen": None, "problem": str(error)}
    return {"folder": path.parent.name, **values}
