"""A run's folder: its settings, its metrics, its checkpoints, and the lock that keeps a second training out."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.files import atomic_write, read_json, read_metadata, read_tensors, write_json, write_tensors
from anamorph.training.migrations import FORMAT, current_config, current_metadata, current_tensors
from anamorph.training.run import Run

__all__ = ["RunFolder"]

T = TypeVar("T")

NAME = re.compile(r"\d{12}(-kept)?\.safetensors")
"""Names of checkpoints: images seen, and whether the checkpoint stays when newer ones come."""
BEST = "check/held_out_nats_per_code"
"""The metric of the best checkpoint, unless its metadata name another."""
KEPT = 6
"""Checkpoints that stay besides the newest ones, of those that belong to pictures of the timeline."""


class RunFolder:
    """The files of a run: config.json, metrics.jsonl, checkpoints/, pictures/; and evaluation/, once it was evaluated."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.checkpoints, self.pictures = self.path / "checkpoints", self.path / "pictures"
        self.evaluation = self.path / "evaluation"
        self.report = self.evaluation / "report.html"

    def __str__(self) -> str:
        return str(self.path)

    @property
    def exists(self) -> bool:
        return (self.path / "config.json").is_file()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against other trainings; the operating system releases the lock when the process dies.

        Raises:
            UserError: if another process has the lock.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("a+") as file:
            if not _lock(file.fileno()):
                file.seek(0)
                other = f"process {file.read().strip() or 'unknown'}"
                raise UserError(f"{self} is being trained by {other}: wait for it, stop it, or choose another --out")
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            for left in self.checkpoints.glob(".*.part"):  # left unfinished by a killed process
                left.unlink(missing_ok=True)
            try:
                yield
            finally:
                if [path.name for path in self.path.iterdir()] == ["lock"]:  # no run was started: leave nothing behind
                    (self.path / "lock").unlink()
                    self.path.rmdir()

    def write_config(self, config: dict[str, Any]) -> None:
        """Write config.json in the present format."""
        write_json(self.path / "config.json", {"format": FORMAT, **config})

    def update_config(self, changes: dict[str, Any]) -> None:
        """Change some settings of config.json; the others stay."""
        write_json(self.path / "config.json", self.config() | changes)

    def config(self) -> dict[str, Any]:
        """Read config.json; that of an older format is converted.

        Raises:
            UserError: if this is no run, or one of a newer anamorph.
        """
        if not self.exists:
            raise UserError(f"{self} is no run (it has no config.json): `anamorph train MODEL SOURCE --out {self}` makes one")
        config = read_json(self.path / "config.json")
        if not isinstance(config, dict):
            raise UserError(f"{self}/config.json was changed and cannot be read: restore it, or start a new run")
        _check_format(self.path / "config.json", config.get("format"))
        return current_config(config)

    def checkpoint_files(self) -> list[Path]:
        """Return the checkpoints, newest first."""
        named = [path for path in self.checkpoints.glob("*.safetensors") if NAME.fullmatch(path.name)]
        return sorted(named, key=_images_of, reverse=True)

    def images_seen(self) -> int:
        """Return the images that the newest readable checkpoint has seen; 0 if there is none yet.

        Raises:
            UserError: if there are checkpoints but none can be read.
        """
        return int(self.progress()["images"])

    def progress(self) -> dict[str, Any]:
        """Return the progress that the newest readable checkpoint has recorded; see `images_seen`."""
        metadata = self.metadata()
        progress: dict[str, Any] = json.loads(metadata["progress"]) if metadata else {"images": 0}
        return progress

    def metadata(self) -> dict[str, str] | None:
        """Return the metadata of the newest readable checkpoint, without its tensors; see `latest`."""
        found = self._newest(_read_metadata)
        return found[0] if found else None

    def checkpoint_in_use(self) -> dict[str, Any]:
        """Describe the checkpoint that `latest(best=True)` returns, without its tensors.

        Returns:
            Its progress, and as "which" either "newest" or "best by METRIC".

        Raises:
            UserError: if there is none yet, or none can be read.
        """
        metadata = _read_metadata(self.best) if self.best.is_file() else self.metadata()
        if metadata is None:
            raise UserError(f"{self} has no checkpoint yet: train it a little with `anamorph resume {self}`")
        progress: dict[str, Any] = json.loads(metadata["progress"])
        return progress | {"which": f"best by {metadata.get('best', BEST)}" if self.best.is_file() else "newest"}

    def save(self, run: Run, metadata: dict[str, str], keep: bool) -> Path:
        """Write a checkpoint, then delete some older ones.

        Args:
            run: what is saved.
            metadata: saved with it.
            keep: whether the checkpoint stays when newer ones come.

        Raises:
            Diverged: if a weight is not finite; nothing is written.
            OSError: if the disk is full; older checkpoints stay.
        """
        run.check_finite()
        path = self.checkpoints / f"{run.images:012d}{'-kept' * keep}.safetensors"
        write_tensors(path, run.tensors(), {"format": str(FORMAT), **run.metadata(), **metadata})
        self._thin(path)
        return path

    def save_best(self, run: Run, by: str = BEST) -> None:
        """Write the best checkpoint so far, by a metric of the log; see `save`."""
        run.check_finite()
        write_tensors(self.best, run.tensors(), {"format": str(FORMAT), **run.metadata(), "best": by})

    @property
    def best(self) -> Path:
        """The path of the checkpoint that was best on held-out data, if that was measured."""
        return self.checkpoints / "best.safetensors"

    def _thin(self, newest: Path) -> None:
        """Delete checkpoints except the newest, the one before it, and some that belong to pictures, evenly spread."""
        kept = [path for path in self.checkpoint_files() if "-kept" in path.name and path != newest]
        spread = {kept[round(i * (len(kept) - 1) / (KEPT - 1))] for i in range(KEPT)} if len(kept) > KEPT else set(kept)
        before = [path for path in self.checkpoint_files() if path != newest][:1]
        for path in self.checkpoint_files():
            if path not in {newest, *before, *spread}:
                path.unlink()

    def checkpoint_images(self) -> list[int]:
        """Return the images seen at each checkpoint, in ascending order."""
        return sorted({_images_of(path)[0] for path in self.checkpoint_files()})

    def latest(
        self, images: int | None = None, best: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, str], list[str]] | None:
        """Read the newest readable checkpoint.

        Args:
            images: consider only checkpoints that had seen this many images.
            best: prefer the best checkpoint, if there is one.

        Returns:
            Tensors, metadata, and the problems of newer checkpoints; None if there is none yet.

        Raises:
            UserError: if there are checkpoints but none can be read.
        """
        if best and self.best.is_file():
            return (*_read_checkpoint(self.best), [])
        found = self._newest(_read_checkpoint, images)
        return (*found[0], found[1]) if found else None

    def _newest(self, read: Callable[[Path], T], images: int | None = None) -> tuple[T, list[str]] | None:
        """Return the result of `read` for the newest checkpoint that it can read, and the problems of newer ones."""
        problems: list[str] = []
        for path in (path for path in self.checkpoint_files() if images in (None, _images_of(path)[0])):
            try:
                return read(path), problems
            except OtherFormat:
                raise
            except UserError as error:
                problems.append(str(error))
        if problems:
            raise UserError(f"no checkpoint of {self} can be read: {'; '.join(problems)}")
        return None

    def log(self, record: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Read the lines of metrics.jsonl; a last line that was cut off by a crash is left out."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        records = []
        for line in lines:
            try:
                records.append(json.loads(line))
            except ValueError:
                break
        return records

    def rewind(self, images: int) -> None:
        """Delete what was logged after this number of images, from where training goes on."""
        path = self.path / "metrics.jsonl"
        if path.is_file():
            kept = [record for record in self.metrics() if record["images"] <= images]
            with atomic_write(path) as temporary:
                temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")


def _images_of(checkpoint: Path) -> tuple[int, str]:
    return int(checkpoint.name[:12]), checkpoint.name


class OtherFormat(UserError):
    """A complete file of a format that this version cannot read."""


def _read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a checkpoint of any format up to the present one."""
    metadata = read_metadata(path)
    _check_format(path, metadata.get("format"))
    return current_metadata(metadata)


def _read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a checkpoint of any format up to the present one."""
    tensors, metadata = read_tensors(path)
    _check_format(path, metadata.get("format"))
    return current_tensors(tensors, int(metadata["format"])), current_metadata(metadata)


def _check_format(path: Path, found: Any) -> None:
    """Raise OtherFormat unless a file names the present format, or an older one."""
    try:
        number = int(found)
    except (TypeError, ValueError):
        raise OtherFormat(f"{path} was not written by anamorph (it names no format)") from None
    if not 1 <= number <= FORMAT:
        raise OtherFormat(f"{path} has format {number}, and this anamorph reads formats 1 to {FORMAT}: use a newer anamorph")


def _lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
