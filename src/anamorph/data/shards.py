"""Images and sounds decoded once, into memory-mapped shards of raw bytes that every later run shares.

A set of shards is named by what it was made from (paths, sizes, times, wanted shape), so a changed file makes another
set. It is built under a temporary name and renamed when whole: two processes may build at once, and one of them
keeps its own. What is found damaged is built again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from anamorph.core.errors import UserError
from anamorph.core.files import read_json, write_json
from anamorph.core.progress import Progress
from anamorph.core.signal import Audio, Image, Signal
from anamorph.data.order import Integers

__all__ = ["Item", "Shards", "cache_folder", "cached"]

Values = NDArray[Any]
"""Bytes of images, 16-bit samples of sounds."""

VERSION = 2
SHARD_BYTES = 256 << 20
ABANDONED_SECONDS = 24 * 3600
"""How long nothing is written by a build before it is taken for killed."""


@dataclass(frozen=True)
class Item:
    """A decoded file: an image [C, H, W], the windows [C, T] of a sound, or the problem; and the conversions that were made."""

    values: Sequence[Values] | None
    conversions: frozenset[str] = frozenset()
    problem: str = ""


def cache_folder() -> Path:
    """$ANAMORPH_CACHE, or the user's cache folder."""
    if "ANAMORPH_CACHE" in os.environ:
        return Path(os.environ["ANAMORPH_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "anamorph"


class Shards:
    """Images [N, C, H, W] or sounds [N, C, T] in memory-mapped files; only what is read is in memory.

    source_rows: index of the source file of each example. notes: number of files by conversion.
    problems: why files were left out, by name.
    """

    def __init__(self, folder: Path, index: dict[str, Any]) -> None:
        shape: list[int] = index["shape"]
        self.signal: Signal = Audio(shape[0], shape[1], index["rate"]) if "rate" in index else Image(*shape)
        self.fingerprint: str = index["fingerprint"]
        self.source_rows = np.fromfile(folder / "kept", np.int64)
        self.notes: dict[str, int] = index["notes"]
        self.problems: dict[str, str] = index["problems"]
        self._kind = _kind_of(self.signal)
        self._maps = [np.memmap(folder / s["file"], self._kind, "r").reshape(-1, *shape) for s in index["shards"]]
        self._rows = len(self._maps[0])  # every shard but the last holds as many

    def __len__(self) -> int:
        return len(self.source_rows)

    @property
    def image(self) -> Image:
        assert isinstance(self.signal, Image)
        return self.signal

    @property
    def audio(self) -> Audio:
        assert isinstance(self.signal, Audio)
        return self.signal

    def read(self, rows: Integers) -> Values:
        if len(self._maps) == 1:
            return np.asarray(self._maps[0][rows])
        out = np.empty((len(rows), *self.signal.shape), self._kind)
        shards, places = np.divmod(rows, self._rows)
        for shard in np.unique(shards):
            here = shards == shard
            out[here] = self._maps[shard][places[here]]
        return out


def _kind_of(signal: Signal) -> np.dtype[Any]:
    """Return the type of the numbers in which a signal is stored."""
    return np.dtype(np.uint8 if isinstance(signal, Image) else "<i2")


def cached(key: str, signal: Signal, decode: Callable[[], Iterable[Item]], names: list[str], progress: Progress) -> Shards:
    """Return the shards named by a key, made by decoding if they are not there, whole, already.

    names: of the items that `decode` yields, in its order.
    Raises: UserError if no file is usable, or more than one in a hundred (and ten) are not.
    """
    rate = f"/{signal.sample_rate}" if isinstance(signal, Audio) else ""
    digest = hashlib.blake2b(f"{VERSION}/{key}/{signal.shape}{rate}".encode(), digest_size=12).hexdigest()
    folder = cache_folder() / "shards" / digest
    ready = _open(folder)
    if ready:
        return ready
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    building = Path(tempfile.mkdtemp(prefix=f".{digest}.", dir=folder.parent))
    try:
        _build(building, signal, decode(), names, progress)
        _install(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    built = _open(folder)
    if not built:
        raise UserError(f"the cache in {folder} is damaged as soon as it is written: is the disk failing? Set ANAMORPH_CACHE")
    return built


def _sweep(folder: Path) -> None:
    """Delete what killed builds of the same shards have left behind."""
    for old in folder.parent.glob(f".{folder.name}.*"):
        try:
            last = max(path.stat().st_mtime for path in (old, *old.iterdir()))
        except OSError:  # another process has just finished, or deletes it too
            continue
        if time.time() - last > ABANDONED_SECONDS:
            shutil.rmtree(old, ignore_errors=True)


def _install(building: Path, folder: Path) -> None:
    """Move what was built into place; whole shards that another process has put there meanwhile are as good."""
    if folder.exists() and not _open(folder):
        shutil.rmtree(folder)
    try:
        building.rename(folder)
    except OSError:
        if not _open(folder):
            raise


def _open(folder: Path) -> Shards | None:
    """Return the shards in a folder, if they are whole."""
    if not (folder / "index.json").is_file():
        return None
    try:
        index = read_json(folder / "index.json")
        if all(_whole(folder / written["file"], written) for written in (index["kept"], *index["shards"])):
            return Shards(folder, index)
    except (UserError, OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _whole(path: Path, written: dict[str, Any]) -> bool:
    """Return whether a file is as it was written; its content is only read again where its time differs."""
    stat = path.stat()
    if stat.st_size != written["size"]:
        return False
    return stat.st_mtime_ns == written["time"] or _checksum(path) == written["crc32"]


def _checksum(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return crc


@dataclass(frozen=True)
class _Written:
    """A file of a cache, as it was when it was written."""

    file: str
    size: int
    time: int
    crc32: int


def _closed(file: IO[bytes], path: Path, crc: int) -> _Written:
    """Close a file whose bytes are on the disk."""
    file.flush()
    os.fsync(file.fileno())
    file.close()
    stat = path.stat()
    return _Written(path.name, stat.st_size, stat.st_mtime_ns, crc)


def _build(folder: Path, signal: Signal, items: Iterable[Item], names: list[str], progress: Progress) -> None:
    kept: list[int] = []
    notes: dict[str, int] = {}
    problems: dict[str, str] = {}

    def usable() -> Iterator[Values]:
        for row, item in enumerate(items):
            if item.values is None:
                problems[names[row]] = item.problem
                _check_limit(problems, len(names), signal.noun)
            else:
                for conversion in item.conversions:
                    notes[conversion] = notes.get(conversion, 0) + 1
                for value in item.values:
                    kept.append(row)
                    yield value
            progress(row + 1, len(names))

    shards = list(_write(folder, signal, usable()))
    if not kept:
        raise UserError(f"none of {len(names)} {signal.noun}s could be read; {_examples(problems)}")
    rows = np.array(kept, np.int64).tobytes()
    with (folder / "kept").open("wb") as file:
        file.write(rows)
        written = _closed(file, folder / "kept", zlib.crc32(rows))
    content = hashlib.blake2b(repr([(s.size, s.crc32) for s in shards]).encode(), digest_size=8).hexdigest()
    index: dict[str, Any] = {"shape": signal.shape, "fingerprint": content, "notes": notes, "problems": problems}
    index |= {"rate": signal.sample_rate} if isinstance(signal, Audio) else {}
    write_json(folder / "index.json", index | {"kept": asdict(written), "shards": [asdict(shard) for shard in shards]})


def _write(folder: Path, signal: Signal, values: Iterator[Values]) -> Iterator[_Written]:
    kind = _kind_of(signal)
    rows = max(1, SHARD_BYTES // (signal.num_values * kind.itemsize))
    number = 0
    while True:
        path = folder / f"{number:05d}.{kind.kind}{8 * kind.itemsize}"
        crc = 0
        with path.open("wb") as file:
            for _, array in zip(range(rows), values, strict=False):
                data = np.ascontiguousarray(array, kind).tobytes()
                file.write(data)
                crc = zlib.crc32(data, crc)
            shard = _closed(file, path, crc)
        if not shard.size:
            path.unlink()
            return
        yield shard
        number += 1


def _check_limit(problems: dict[str, str], total: int, noun: str) -> None:
    if len(problems) > max(10, total // 100):
        raise UserError(
            f"too many of {total} {noun}s cannot be used ({len(problems)} so far; up to 10, or one in a hundred, are "
            f"skipped); {_examples(problems)}: repair or remove them"
        )


def _examples(problems: dict[str, str]) -> str:
    first = list(problems.items())[:3]
    return "for example " + "; ".join(f"{name}: {why}" for name, why in first)
