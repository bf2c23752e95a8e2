"""Reading other people's pickles without running anything: checkpoints of PyTorch and networks of NVIDIA's TensorFlow code.

A pickle is a program: it names functions and has them called. Here every name is looked up in one table of inert stand-ins,
which only keep numbers; whatever is not in it is refused by name. Sizes are checked against the bytes that are there.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from anamorph.core.errors import UserError

__all__ = ["Record", "read_pickle"]

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""What the older of PyTorch's two formats begins with."""
MOST_DEPTH = 64
"""Of the structure that a file holds."""
DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
ARRAYS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"}


class Record(dict[str, Any]):
    """What an object of a foreign class kept: its attributes by name."""


class _Refused(Exception):
    """Something that no checkpoint needs."""


@dataclass(frozen=True)
class _Kind:
    """A class of storages."""

    dtype: torch.dtype


@dataclass
class _Storage:
    """Numbers in a row; their bytes may come later in the file."""

    dtype: torch.dtype
    count: int
    data: bytes = b""


@dataclass(frozen=True)
class _Strided:
    """A tensor as the file describes it."""

    storage: _Storage
    offset: int
    size: tuple[Any, ...]
    stride: tuple[Any, ...]

    def tensor(self) -> Tensor:
        s = self.storage
        sizes = [*self.size, *self.stride, self.offset]
        if not all(isinstance(n, int) and 0 <= n < 2**48 for n in sizes) or len(self.size) != len(self.stride):
            raise _Refused(f"a tensor of size {self.size} and stride {self.stride}")
        last = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        if (
            math.prod(self.size) > s.count
            or (math.prod(self.size) and last >= s.count)
            or len(s.data) != s.count * s.dtype.itemsize
        ):
            raise _Refused(f"a tensor of size {self.size} in a storage of {s.count} numbers and {len(s.data)} bytes")
        if not s.count:
            return torch.empty(self.size, dtype=s.dtype)
        flat = torch.frombuffer(bytearray(s.data), dtype=s.dtype)
        return flat.as_strided(self.size, self.stride, self.offset).clone()


def _rebuild_tensor(storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> _Strided:
    if not isinstance(storage, _Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise _Refused(f"a tensor made of {type(storage).__name__}")
    return _Strided(storage, offset, size, stride)


def _rebuild_parameter(data: _Strided, *_: Any) -> _Strided:
    return data


class _Dtype:
    """A NumPy type, as its name and its order of bytes."""

    def __init__(self, name: str = "", *_: Any) -> None:
        if name not in ARRAYS:
            raise _Refused(f"an array of type {name!r}")
        self.name, self.order = name, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.name)


class _Array:
    """A NumPy array."""

    value: np.ndarray[Any, Any]

    def __init__(self, *_: Any) -> None:
        self.value = np.empty(0, np.float32)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise _Refused("an array of objects")
        if len(data) != math.prod(shape) * dtype.numpy.itemsize:
            raise _Refused(f"an array of shape {shape} in {len(data)} bytes")
        array = np.frombuffer(data, dtype.numpy).reshape(shape, order="F" if fortran else "C")
        self.value = array.astype(array.dtype.newbyteorder("="))  # a copy that may be written


def _from_buffer(data: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", bytes(data)))
    return array


def _scalar(dtype: _Dtype, data: bytes) -> float:
    return float(np.frombuffer(data, dtype.numpy)[0])


class _Object(Record):
    """Stands in for an object whose class is known to be harmless: its state is kept, and nothing is done with it."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.update(state if isinstance(state, dict) else {"state": state})


def _bytes(text: str, encoding: str) -> bytes:
    """How Python 2's strings of bytes are written."""
    if encoding != "latin1":
        raise _Refused(f"bytes as {encoding}")
    return text.encode("latin1")


KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): _Object,
    ("builtins", "dict"): dict,
    ("__builtin__", "dict"): dict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): tuple,
    ("_codecs", "encode"): _bytes,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("dnnlib.tflib.network", "Network"): _Object,
    ("dnnlib.util", "EasyDict"): _Object,
    ("dnnlib", "EasyDict"): _Object,
}
KNOWN |= {("torch", name): _Kind(dtype) for name, dtype in DTYPES.items()}
KNOWN |= {("tracker", name): _Object for name in ("LossTracker", "RunningMean", "RunningMeanTorch")}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    KNOWN |= {(_module, "_reconstruct"): _Array, (_module, "scalar"): _scalar}
    KNOWN[_module.replace("multiarray", "numeric"), "_frombuffer"] = _from_buffer


_Python: Any = pickle._Unpickler
"""Python's own, not C's: its memo grows as it is used, not as a file says."""


class _Unpickler(_Python):  # type: ignore[misc]
    def __init__(self, file: Any, storages: Callable[[str, torch.dtype, int], _Storage] | None = None) -> None:
        super().__init__(file, encoding="latin1")
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise _Refused(f"{module}.{name}")
        return KNOWN[module, name]

    def load_build(self) -> None:
        if not isinstance(self.stack[-2], (_Object, _Array, _Dtype, OrderedDict)):
            raise _Refused(f"a change to {self.stack[-2]!r:.80}")
        super().load_build()

    dispatch: ClassVar[dict[int, Any]] = {**_Python.dispatch, pickle.BUILD[0]: load_build}

    def get_extension(self, code: int) -> Any:
        raise _Refused(f"the extension {code}")

    def persistent_load(self, pid: Any) -> _Storage:
        if self.storages is None or not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise _Refused(f"a reference to {pid!r:.80}")
        _, kind, key, _, count, *view = pid
        if not isinstance(kind, _Kind) or not isinstance(count, int) or any(view):
            raise _Refused(f"a storage {pid!r:.80}")
        return self.storages(str(key), kind.dtype, count)


def read_pickle(path: Path) -> Any:
    """What a file of PyTorch (.pth, both formats) or NVIDIA (.pkl) holds, as dicts, lists, numbers, arrays and tensors.

    Raises: UserError, having executed nothing, for a file that is damaged, or that asks for anything but numbers.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
            file.seek(0)
            found = _read_zip(file) if start == b"PK\x03\x04" else _read_stream(file)
        return _plain(found)
    except _Refused as error:
        raise UserError(
            f"{path} is refused, and nothing in it was executed: it asks for {error}, which no checkpoint needs"
        ) from error
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except RecursionError as error:
        raise UserError(f"{path} is damaged: it is nested too deeply") from error
    except Exception as error:  # whatever a damaged file makes a reader stumble over
        raise UserError(f"{path} is damaged, cut short, or no checkpoint ({type(error).__name__}: {error!s:.120})") from error


def _read_zip(file: Any) -> Any:
    """PyTorch's present format: a pickle, and a file for each storage, not compressed."""
    with zipfile.ZipFile(file) as archive:
        index = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if index is None:
            raise _Refused("no data.pkl (an archive of something else)")
        root = index.removesuffix("data.pkl")
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise _Refused("a compressed archive")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise _Refused("numbers in big-endian order")
        found: dict[str, _Storage] = {}

        def storage(key: str, dtype: torch.dtype, count: int) -> _Storage:
            if key not in found:
                found[key] = _Storage(dtype, count, archive.read(f"{root}data/{key}"))
            return found[key]

        return _Unpickler(io.BytesIO(archive.read(index)), storage).load()


def _read_stream(file: Any) -> Any:
    """A plain pickle, or PyTorch's older format: a row of pickles, then the storages."""
    first = _Unpickler(file).load()
    if first != MAGIC:
        return first
    if _Unpickler(file).load() != PROTOCOL:
        raise _Refused("another protocol")
    if not _Unpickler(file).load().get("little_endian", True):
        raise _Refused("numbers in big-endian order")
    found: dict[str, _Storage] = {}
    tree = _Unpickler(file, lambda key, dtype, count: found.setdefault(key, _Storage(dtype, count))).load()
    for key in _Unpickler(file).load():
        storage = found[key]
        (count,) = struct.unpack("<q", file.read(8))
        if count != storage.count:
            raise _Refused(f"a storage of {count} numbers where {storage.count} were announced")
        storage.data = file.read(count * storage.dtype.itemsize)
    return tree


def _plain(value: Any, depth: int = 0) -> Any:
    if depth > MOST_DEPTH:
        raise RecursionError
    if isinstance(value, _Strided):
        return value.tensor()
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, Mapping):
        kind = Record if isinstance(value, Record) else dict
        return kind({str(name): _plain(v, depth + 1) for name, v in value.items()})
    if isinstance(value, (list, tuple)):
        return [_plain(v, depth + 1) for v in value]
    return value
