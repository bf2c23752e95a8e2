"""Read foreign pickles without running anything: checkpoints of PyTorch and networks of NVIDIA's TensorFlow code.

A pickle is a program: it names functions and has them called. Here it is run with few instructions, those that checkpoints
are made of; every name is looked up in one table of inert stand-ins, which only keep numbers, and whatever is not in it is
refused by name. No size that a file announces is trusted, and what is read may not grow far beyond the file.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from anamorph.core.errors import UserError
from anamorph.interop.inert_types import (
    KNOWN,
    STAND_INS,
    Array,
    Budget,
    DamagedFile,
    Dtype,
    Object,
    Record,
    Storage,
    StorageType,
    Strided,
    UnsupportedPickle,
    is_count,
)

__all__ = ["read_pickle"]

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""The first two values of PyTorch's older format."""
MAX_DEPTH = 64
"""Nesting depth of a file's structure, at most."""
INSTRUCTIONS = (
    "PROTO",
    "FRAME",
    "STOP",
    "MARK",
    "NONE",
    "NEWTRUE",
    "NEWFALSE",
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINSTRING",
    "SHORT_BINSTRING",
    "EMPTY_DICT",
    "EMPTY_LIST",
    "EMPTY_TUPLE",
    "TUPLE",
    "TUPLE1",
    "TUPLE2",
    "TUPLE3",
    "APPEND",
    "APPENDS",
    "SETITEM",
    "SETITEMS",
    "GLOBAL",
    "STACK_GLOBAL",
    "REDUCE",
    "NEWOBJ",
    "BUILD",
    "BINPERSID",
    "BINPUT",
    "LONG_BINPUT",
    "BINGET",
    "LONG_BINGET",
    "MEMOIZE",
    "BYTEARRAY8",
)
"""The pickle instructions that checkpoints use."""


class _Source:
    """A file whose reads are checked against its size."""

    def __init__(self, file: Any, size: int) -> None:
        self.file, self.size = file, size

    def read(self, n: int) -> bytes:
        if not 0 <= n <= self.size - self.file.tell():
            raise DamagedFile(f"{n} bytes are announced where fewer are left")
        data: bytes = self.file.read(n)
        return data

    def readline(self) -> bytes:
        line: bytes = self.file.readline(1000)
        return line


_Python: Any = pickle._Unpickler
"""The pure-Python unpickler: its memo grows as it is used, not to the size that a file announces."""


class _Unpickler(_Python):  # type: ignore[misc]
    def __init__(
        self, source: _Source, budget: Budget, storages: Callable[[str, torch.dtype, int], Storage] | None = None
    ) -> None:
        super().__init__(source, encoding="latin1")
        self.budget, self.storages = budget, storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise UnsupportedPickle(ascii(f"{module}.{name}"[:80])[1:-1])
        return KNOWN[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        if self.storages is None or type(pid) is not tuple or len(pid) < 5 or pid[0] != "storage":
            raise UnsupportedPickle("a reference to something outside the file")
        _, kind, key, _, count, *view = pid
        if (
            not isinstance(kind, StorageType)
            or type(key) not in (str, int)
            or not is_count(count)
            or any(v is not None for v in view)
        ):
            raise UnsupportedPickle("a storage of an unknown kind")
        return self.storages(str(key), kind.dtype, count)

    def load_bytearray8(self) -> None:
        (count,) = struct.unpack("<Q", self.read(8))
        self.append(bytes(self.read(count)))

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack[-1]
        if id(function) not in STAND_INS or type(arguments) is not tuple:
            raise UnsupportedPickle(f"a call of {type(function).__name__}")
        value = function(*arguments)
        self.budget.charge(len(value) if isinstance(value, bytes) else _num_bytes(value))
        self.stack[-1] = value

    def load_newobj(self) -> None:
        self.stack.pop()
        if self.stack[-1] not in (Object, Array):
            raise UnsupportedPickle(f"an object of {type(self.stack[-1]).__name__}")
        self.stack[-1] = self.stack[-1]()

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, (Object, Array, Dtype)):
            target.__setstate__(state)
            self.budget.charge(_num_bytes(target))
        elif not isinstance(target, OrderedDict):  # a state dict has attributes, which are not needed
            raise UnsupportedPickle(f"a change to {type(target).__name__}")

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _set(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        _set(self.stack[-1], items)

    dispatch: ClassVar[dict[int, Any]] = {
        **{getattr(pickle, name)[0]: _Python.dispatch[getattr(pickle, name)[0]] for name in INSTRUCTIONS},
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
    }


def _num_bytes(value: Any) -> int:
    return value.value.nbytes if isinstance(value, Array) else 0


def _set(target: Any, items: list[Any]) -> None:
    """Set items of a dictionary. Keys must be plain values, since hashing others could take unlimited time."""
    if not isinstance(target, dict):
        raise UnsupportedPickle(f"items of {type(target).__name__}")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) not in (str, int, float, bool, bytes, type(None)):
            raise UnsupportedPickle(f"a key that is a {type(key).__name__}")
        target[key] = value


def read_pickle(path: Path) -> Any:
    """Read a file of PyTorch (.pth, both formats) or NVIDIA (.pkl) as dicts, lists, numbers, arrays and tensors.

    Nothing in the file is executed.

    Raises:
        UserError: for a file that is damaged, or that asks for anything but numbers.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            budget = Budget(size)
            start = file.read(4)
            file.seek(0)
            content = _read_zip(file, size, budget) if start == b"PK\x03\x04" else _read_stream(_Source(file, size), budget)
        return _Plain(budget).convert(content)
    except UnsupportedPickle as error:
        raise UserError(
            f"{path} is refused, and nothing in it was executed: it asks for {error}, which no checkpoint needs"
        ) from error
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except RecursionError as error:
        raise UserError(f"{path} is damaged: it is nested too deeply, or within itself") from error
    except Exception as error:  # a damaged file can raise anything
        kind = "" if isinstance(error, DamagedFile) else f"{type(error).__name__}: "
        raise UserError(f"{path} is damaged, cut short, or no checkpoint ({kind}{ascii(str(error)[:120])[1:-1]})") from error


def _read_zip(file: Any, size: int, budget: Budget) -> Any:
    """Read PyTorch's current format: an uncompressed archive of a pickle and a file per storage."""
    with zipfile.ZipFile(file) as archive:
        index = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if index is None:
            raise DamagedFile("an archive without data.pkl")
        root = index.removesuffix("data.pkl")
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise UnsupportedPickle("a compressed archive")
        if sum(info.file_size for info in archive.infolist()) > size:
            raise DamagedFile("its members are larger than it is")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise DamagedFile("numbers in big-endian order, which is not supported")
        storages: dict[str, Storage] = {}

        def storage(key: str, dtype: torch.dtype, count: int) -> Storage:
            if key not in storages:
                storages[key] = Storage(dtype, count, archive.read(f"{root}data/{key}"))
            return storages[key]

        data = archive.read(index)
        return _Unpickler(_Source(io.BytesIO(data), len(data)), budget, storage).load()


def _read_stream(source: _Source, budget: Budget) -> Any:
    """Read a plain pickle, or PyTorch's older format: several pickles, then the storages."""
    first = _Unpickler(source, budget).load()
    if first != MAGIC or type(first) is not int:
        return first
    if _Unpickler(source, budget).load() != PROTOCOL:
        raise DamagedFile("another protocol")
    if not _Unpickler(source, budget).load().get("little_endian", True):
        raise DamagedFile("numbers in big-endian order, which is not supported")
    storages: dict[str, Storage] = {}

    def storage(key: str, dtype: torch.dtype, count: int) -> Storage:
        return storages.setdefault(key, Storage(dtype, count))

    tree = _Unpickler(source, budget, storage).load()
    for key in _Unpickler(source, budget).load():
        announced = storages[key]
        (count,) = struct.unpack("<q", source.read(8))
        if count != announced.count or announced.data:
            raise DamagedFile(f"a storage of {count} numbers where {announced.count} were announced")
        announced.data = source.read(count * announced.dtype.itemsize)
    return tree


class _Plain:
    """Replaces stand-ins by plain values; a value that is referred to twice is converted once."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.converted: dict[int, Any] = {}

    def convert(self, value: Any, depth: int = 0) -> Any:
        if depth > MAX_DEPTH:
            raise RecursionError
        if not isinstance(value, (Strided, Mapping, list, tuple)):
            return value.value if isinstance(value, Array) else value
        if id(value) not in self.converted:
            self.converted[id(value)] = self._make(value, depth)
        return self.converted[id(value)]

    def _make(self, value: Any, depth: int) -> Any:
        if isinstance(value, Strided):
            return value.tensor(self.budget)
        if isinstance(value, Mapping):
            kind = Record if isinstance(value, Record) else dict
            return kind({str(name): self.convert(v, depth + 1) for name, v in value.items()})
        return [self.convert(v, depth + 1) for v in value]
