"""Images decoded once, into memory-mapped shards of raw bytes that every later run shares.

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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from anamorph.core.errors import UserError
from anamorph.core.files import read_json, write_json
from anamorph.core.progress import Progress
from anamorph.core.signal import Image
from anamorph.data.images import Bytes
from anamorph.data.order import Integers

__all__ = ["Item", "Shards", "cache_folder", "cached"]

VERSION = 2
SHARD_BYTES = 256 << 20
ABANDONED_SECONDS = 24 * 3600
"""How long nothing is written by a build before it is taken for killed."""


@dataclass(frozen=True)
class Item:
    """One decoded image [C, H, W], or why there is none; and what was done to it."""

    pixels: Bytes | None
    done: frozenset[str] = frozenset()
    problem: str = ""


def cache_folder() -> Path:
    """$ANAMORPH_CACHE, or the user's cache folder."""
    if "ANAMORPH_CACHE" in os.environ:
        return Path(os.environ["ANAMORPH_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "anamorph"


class Shards:
    """Images [N, C, H, W] in memory-mapped files; only what is read is in memory.

    kept: which of the images that were offered are there. notes: what was done to how many. problems: what was left out.
    """

    def __init__(self, folder: Path, index: dict[str, Any]) -> None:
        self.image = Image(*index["shape"])
        self.fingerprint: str = index["fingerprint"]
        self.kept = np.fromfile(folder / "kept", np.int64)
        self.notes: dict[str, int] = index["notes"]
        self.problems: dict[str, str] = index["problems"]
        shape = (-1, *self.image.shape)
        self._maps = [np.memmap(folder / s["file"], np.uint8, "r").reshape(shape) for s in index["shards"]]
        self._rows = len(self._maps[0])  # every shard but the last holds as many

    def __len__(self) -> int:
        return len(self.kept)

    def read(self, rows: Integers) -> Bytes:
        if len(self._maps) == 1:
            return np.asarray(self._maps[0][rows])
        out = np.empty((len(rows), *self.image.shape), np.uint8)
        shards, places = np.divmod(rows, self._rows)
        for shard in np.unique(shards):
            here = shards == shard
            out[here] = self._maps[shard][places[here]]
        return out


def cached(key: str, image: Image, decode: Callable[[], Iterable[Item]], names: list[str], progress: Progress) -> Shards:
    """The shards named by a key, made by decoding if they are not there, whole, already.

    names: of the items that `decode` yields, in its order.
    Raises: UserError if no image is usable, or more than one in a hundred (and ten) are not.
    """
    digest = hashlib.blake2b(f"{VERSION}/{key}/{image.shape}".encode(), digest_size=12).hexdigest()
    folder = cache_folder() / "shards" / digest
    ready = _open(folder)
    if ready:
        return ready
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    building = Path(tempfile.mkdtemp(prefix=f".{digest}.", dir=folder.parent))
    try:
        _build(building, image, decode(), names, progress)
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
    """The shards in a folder, if they are whole."""
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
    """Whether a file is as it was written; its content is only read again where its time differs."""
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


def _build(folder: Path, image: Image, items: Iterable[Item], names: list[str], progress: Progress) -> None:
    kept: list[int] = []
    notes: dict[str, int] = {}
    problems: dict[str, str] = {}

    def usable() -> Iterator[Bytes]:
        for row, item in enumerate(items):
            if item.pixels is None:
                problems[names[row]] = item.problem
                _check_limit(problems, len(names))
            else:
                kept.append(row)
                for done in item.done:
                    notes[done] = notes.get(done, 0) + 1
                yield item.pixels
            progress(row + 1, len(names))

    shards = list(_write(folder, image, usable()))
    if not kept:
        raise UserError(f"none of {len(names)} images could be read; {_examples(problems)}")
    rows = np.array(kept, np.int64).tobytes()
    with (folder / "kept").open("wb") as file:
        file.write(rows)
        written = _closed(file, folder / "kept", zlib.crc32(rows))
    content = hashlib.blake2b(repr([(s.size, s.crc32) for s in shards]).encode(), digest_size=8).hexdigest()
    index = {"shape": image.shape, "fingerprint": content, "notes": notes, "problems": problems, "kept": asdict(written)}
    write_json(folder / "index.json", index | {"shards": [asdict(shard) for shard in shards]})


def _write(folder: Path, image: Image, pixels: Iterator[Bytes]) -> Iterator[_Written]:
    rows = max(1, SHARD_BYTES // image.values)
    number = 0
    while True:
        path = folder / f"{number:05d}.u8"
        crc = 0
        with path.open("wb") as file:
            for _, array in zip(range(rows), pixels, strict=False):
                data = np.ascontiguousarray(array).tobytes()
                file.write(data)
                crc = zlib.crc32(data, crc)
            shard = _closed(file, path, crc)
        if not shard.size:
            path.unlink()
            return
        yield shard
        number += 1


def _check_limit(problems: dict[str, str], total: int) -> None:
    if len(problems) > max(10, total // 100):
        raise UserError(
            f"too many of {total} images cannot be used ({len(problems)} so far; up to 10, or one in a hundred, are "
            f"skipped); {_examples(problems)}: repair or remove them"
        )


def _examples(problems: dict[str, str]) -> str:
    first = list(problems.items())[:3]
    return "for example " + "; ".join(f"{name}: {why}" for name, why in first)
