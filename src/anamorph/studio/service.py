"""The runs that a studio shows, and the models of those that are looked at."""

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
from anamorph.studio.limits import FOUND_BYTES, JOBS, MODELS, UPLOADED_BYTES
from anamorph.studio.stores import Store
from anamorph.studio.worker import Worker
from anamorph.training.folder import RunFolder

__all__ = ["Service", "find_runs"]

DEEP = 4
"""Folders below the one that was named in which runs are looked for."""


def find_runs(paths: Sequence[Path]) -> dict[str, Path]:
    """Runs by a short name that is good in an address: the folders named, and those inside of them.

    Raises: UserError if a folder is not there, or none of them holds a run.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            raise UserError(f"no such folder: {path}")
        found += [run for run in _runs_in(path.resolve(), DEEP) if run not in found]
    if not found:
        raise UserError(f"no run in {', '.join(map(str, paths))}: `anamorph train` or `anamorph demo` makes one")
    named: dict[str, Path] = {}
    for run in found:
        name = _name(run.name)
        if name in named:
            name = _name(f"{run.parent.name}-{run.name}")
        unique = next(n for n in [name, *(f"{name}-{i}" for i in range(2, len(found) + 2))] if n not in named)
        named[unique] = run
    return named


def _runs_in(path: Path, deep: int) -> Iterator[Path]:
    if RunFolder(path).exists:
        yield path
    elif deep:
        for inner in sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".") and not p.is_symlink()):
            yield from _runs_in(inner, deep - 1)


def _name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "run"


class Service:
    """Runs by name, and a worker for each that is looked at; the one used longest ago is let go of. For several threads."""

    def __init__(self, runs: dict[str, Path], most: int = MODELS) -> None:
        self.runs, self._most = dict(runs), most
        self.files: Store[bytes] = Store(UPLOADED_BYTES, len)
        self.found: Store[Codes] = Store(FOUND_BYTES, _bytes_of)
        self.jobs = threading.BoundedSemaphore(JOBS)
        self._workers: OrderedDict[str, tuple[str, Worker]] = OrderedDict()
        self._lock = threading.Lock()

    def path(self, run: str) -> Path:
        """Raises: UserError for a name that is not among the runs; nothing else of the disk can be named."""
        if run not in self.runs:
            raise UserError(f"no run {run!r}: {nearest(run, self.runs)}")
        return self.runs[run]

    def worker(self, run: str, renew: bool = False) -> Worker:
        """The thread that has a run's model. renew: take up a newer checkpoint, if there is one."""
        path = self.path(run)
        with self._lock:
            version, worker = self._workers.get(run, ("", None))
            if worker is None or (renew and version != _version(path)):
                if worker is not None:
                    worker.close()
                worker = Worker(lambda: Bench(load(path), path, self.files, self.found), run)
                self._workers[run] = _version(path), worker
            self._workers.move_to_end(run)
            while len(self._workers) > self._most:
                self._workers.popitem(last=False)[1][1].close()
            return worker

    def listed(self) -> list[dict[str, Any]]:
        """The runs, without opening their models."""
        return [{"id": name, **_summary(path)} for name, path in self.runs.items()]

    def close(self) -> None:
        with self._lock:
            for _, worker in self._workers.values():
                worker.close()
            self._workers.clear()


def _bytes_of(codes: Codes) -> int:
    return sum(value.numel() * value.element_size() for value in codes.values())


def _version(path: Path) -> str:
    """Names the checkpoint that would be loaded."""
    folder = RunFolder(path)
    found = folder.best if folder.best.is_file() else next(iter(folder.checkpoint_files()), None)
    return f"{found.name} {found.stat().st_mtime_ns}" if found else ""


def _summary(path: Path) -> dict[str, Any]:
    try:
        config = RunFolder(path).config()
        seen = next((int(p.name[:12]) for p in RunFolder(path).checkpoint_files()), None)
        size = config.get("signal", {})
        told = {"model": str(config.get("model", "?")), "seen": seen, "total": config.get("images"), "signal": size}
    except (UserError, OSError, ValueError) as error:
        told = {"model": "?", "seen": None, "problem": str(error)}
    return {"folder": path.parent.name, **told}
