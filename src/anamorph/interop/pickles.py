"""Reading other people's pickles without running anything: checkpoints of PyTorch and networks of NVIDIA's TensorFlow code.

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
    STANDINS,
    Array,
    Budget,
    Damaged,
    Dtype,
    Kind,
    Object,
    Record,
    Refused,
    Storage,
    Strided,
    is_count,
)

__all__ = ["read_pickle"]

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""What the older of PyTorch's two formats begins with."""
MOST_DEPTH = 64
"""Of the structure that a file holds."""
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
"""Of the pickle machine, those that checkpoints are made of."""


class _Source:
    """A file that is never asked for more than it has."""

    def __init__(self, file: Any, size: int) -> None:
        self.file, self.size = file, size

    def read(self, n: int) -> bytes:
        if not 0 <= n <= self.size - self.file.tell():
            raise Damaged(f"{n} bytes are announced where fewer are left")
        found: bytes = self.file.read(n)
        return found

    def readline(self) -> bytes:
        found: bytes = self.file.readline(1000)
        return found


_Python: Any = pickle._Unpickler
"""Python's own, not C's: its memo grows as it is used, not as a file says."""


class _Unpickler(_Python):  # type: ignore[misc]
    def __init__(
        self, source: _Source, budget: Budget, storages: Callable[[str, torch.dtype, int], Storage] | None = None
    ) -> None:
        super().__init__(source, encoding="latin1")
        self.budget, self.storages = budget, storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise Refused(ascii(f"{module}.{name}"[:80])[1:-1])
        return KNOWN[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        if self.storages is None or type(pid) is not tuple or len(pid) < 5 or pid[0] != "storage":
            raise Refused("a reference to something outside the file")
        _, kind, key, _, count, *view = pid
        if not isinstance(kind, Kind) or type(key) not in (str, int) or not is_count(count) or any(v is not None for v in view):
            raise Refused("a storage of an unknown kind")
        return self.storages(str(key), kind.dtype, count)

    def load_bytearray8(self) -> None:
        (count,) = struct.unpack("<Q", self.read(8))
        self.append(bytes(self.read(count)))

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack[-1]
        if id(function) not in STANDINS or type(arguments) is not tuple:
            raise Refused(f"a call of {type(function).__name__}")
        value = function(*arguments)
        self.budget.charge(len(value) if isinstance(value, bytes) else _held(value))
        self.stack[-1] = value

    def load_newobj(self) -> None:
        self.stack.pop()
        if self.stack[-1] not in (Object, Array):
            raise Refused(f"an object of {type(self.stack[-1]).__name__}")
        self.stack[-1] = self.stack[-1]()

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, (Object, Array, Dtype)):
            target.__setstate__(state)
            self.budget.charge(_held(target))
        elif not isinstance(target, OrderedDict):  # a state dict has attributes, which are not needed
            raise Refused(f"a change to {type(target).__name__}")

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


def _held(value: Any) -> int:
    return value.value.nbytes if isinstance(value, Array) else 0


def _set(target: Any, items: list[Any]) -> None:
    """Keys are plain: to look up others, they would have to be compared through and through."""
    if not isinstance(target, dict):
        raise Refused(f"items of {type(target).__name__}")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) not in (str, int, float, bool, bytes, type(None)):
            raise Refused(f"a key that is a {type(key).__name__}")
        target[key] = value


def read_pickle(path: Path) -> Any:
    """What a file of PyTorch (.pth, both formats) or NVIDIA (.pkl) holds, as dicts, lists, numbers, arrays and tensors.

    Raises: UserError, having executed nothing, for a file that is damaged, or that asks for anything but numbers.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            budget = Budget(size)
            start = file.read(4)
            file.seek(0)
            found = _read_zip(file, size, budget) if start == b"PK\x03\x04" else _read_stream(_Source(file, size), budget)
        return _Plain(budget).of(found)
    except Refused as error:
        raise UserError(
            f"{path} is refused, and nothing in it was executed: it asks for {error}, which no checkpoint needs"
        ) from error
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except RecursionError as error:
        raise UserError(f"{path} is damaged: it is nested too deeply, or within itself") from error
    except Exception as error:  # whatever a damaged file makes a reader stumble over
        kind = "" if isinstance(error, Damaged) else f"{type(error).__name__}: "
        raise UserError(f"{path} is damaged, cut short, or no checkpoint ({kind}{ascii(str(error)[:120])[1:-1]})") from error


def _read_zip(file: Any, size: int, budget: Budget) -> Any:
    """PyTorch's present format: a pickle, and a file for each storage, not compressed."""
    with zipfile.ZipFile(file) as archive:
        index = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if index is None:
            raise Damaged("an archive without data.pkl, of something else")
        root = index.removesuffix("data.pkl")
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise Refused("a compressed archive")
        if sum(info.file_size for info in archive.infolist()) > size:
            raise Damaged("its members are larger than it is")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise Damaged("numbers in big-endian order, which is not supported")
        found: dict[str, Storage] = {}

        def storage(key: str, dtype: torch.dtype, count: int) -> Storage:
            if key not in found:
                found[key] = Storage(dtype, count, archive.read(f"{root}data/{key}"))
            return found[key]

        data = archive.read(index)
        return _Unpickler(_Source(io.BytesIO(data), len(data)), budget, storage).load()


def _read_stream(source: _Source, budget: Budget) -> Any:
    """A plain pickle, or PyTorch's older format: a row of pickles, then the storages."""
    first = _Unpickler(source, budget).load()
    if first != MAGIC or type(first) is not int:
        return first
    if _Unpickler(source, budget).load() != PROTOCOL:
        raise Damaged("another protocol")
    if not _Unpickler(source, budget).load().get("little_endian", True):
        raise Damaged("numbers in big-endian order, which is not supported")
    found: dict[str, Storage] = {}

    def storage(key: str, dtype: torch.dtype, count: int) -> Storage:
        return found.setdefault(key, Storage(dtype, count))

    tree = _Unpickler(source, budget, storage).load()
    for key in _Unpickler(source, budget).load():
        its = found[key]
        (count,) = struct.unpack("<q", source.read(8))
        if count != its.count or its.data:
            raise Damaged(f"a storage of {count} numbers where {its.count} were announced")
        its.data = source.read(count * its.dtype.itemsize)
    return tree


class _Plain:
    """What was read, without stand-ins; what a file refers to twice is made once."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.made: dict[int, Any] = {}

    def of(self, value: Any, depth: int = 0) -> Any:
        if depth > MOST_DEPTH:
            raise RecursionError
        if not isinstance(value, (Strided, Mapping, list, tuple)):
            return value.value if isinstance(value, Array) else value
        if id(value) not in self.made:
            self.made[id(value)] = self._make(value, depth)
        return self.made[id(value)]

    def _make(self, value: Any, depth: int) -> Any:
        if isinstance(value, Strided):
            return value.tensor(self.budget)
        if isinstance(value, Mapping):
            kind = Record if isinstance(value, Record) else dict
            return kind({str(name): self.of(v, depth + 1) for name, v in value.items()})
        return [self.of(v, depth + 1) for v in value]
