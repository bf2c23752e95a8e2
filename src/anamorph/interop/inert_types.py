"""Inert stand-ins for the classes and functions that pickles name. They hold numbers and run nothing."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "KNOWN",
    "STAND_INS",
    "Array",
    "Budget",
    "DamagedFile",
    "Dtype",
    "Object",
    "Record",
    "Storage",
    "StorageType",
    "Strided",
    "UnsupportedPickle",
    "is_count",
]

MAX_AXES = 8
"""Axes of a tensor or an array, at most."""
GROWTH, ALLOWANCE = 4, 64 << 20
"""Memory limit of what is read: this many times the file's size, plus this many bytes."""
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
"""The element type of each of PyTorch's storage classes, by name."""
ARRAYS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}


class Record(dict[str, Any]):
    """The attributes of an object of a foreign class, by name."""


class UnsupportedPickle(Exception):
    """The pickle asks for something that no checkpoint needs."""


class DamagedFile(Exception):
    """The file contradicts itself, or ends too early."""


class Budget:
    """How many bytes may still be allocated for a file."""

    def __init__(self, size: int) -> None:
        self.left = GROWTH * size + ALLOWANCE

    def charge(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise UnsupportedPickle("far more memory than it is long")


@dataclass(frozen=True)
class StorageType:
    """A storage class, known by its element type."""

    dtype: torch.dtype


@dataclass
class Storage:
    """A flat block of numbers, whose bytes may come later in the file."""

    dtype: torch.dtype
    count: int
    data: bytes = b""
    numbers: Tensor | None = None

    def flat(self, budget: Budget) -> Tensor:
        if len(self.data) != self.count * self.dtype.itemsize:
            raise DamagedFile(f"a storage of {self.count} numbers has {len(self.data)} bytes")
        if self.numbers is None:
            budget.charge(len(self.data))
            self.numbers = torch.frombuffer(bytearray(self.data), dtype=self.dtype) if self.count else torch.empty(0)
        return self.numbers


@dataclass(frozen=True)
class Strided:
    """A tensor as the file describes it."""

    storage: Storage
    offset: int
    size: tuple[Any, ...]
    stride: tuple[Any, ...]

    def tensor(self, budget: Budget) -> Tensor:
        sizes = [*self.size, *self.stride, self.offset]
        if len(self.size) != len(self.stride) or len(self.size) > MAX_AXES or not all(map(is_count, sizes)):
            raise DamagedFile("a tensor's size and stride are not tuples of whole numbers")
        count, flat = math.prod(self.size), self.storage.flat(budget)
        if not count:
            return torch.empty(self.size, dtype=self.storage.dtype) if max(self.size) < 2**31 else torch.empty(0)
        last = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        if count > self.storage.count or last >= self.storage.count:
            raise DamagedFile(f"a tensor of {count} numbers reaches out of its storage of {self.storage.count} numbers")
        budget.charge(count * self.storage.dtype.itemsize)
        return flat.as_strided(self.size, self.stride, self.offset).clone()


def is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Strided:
    if not isinstance(storage, Storage) or type(size) is not tuple or type(stride) is not tuple:
        raise UnsupportedPickle(f"a tensor made of {type(storage).__name__}")
    return Strided(storage, offset, size, stride)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _size(values: tuple[Any, ...] = ()) -> tuple[Any, ...]:
    if type(values) is not tuple or len(values) > MAX_AXES:
        raise UnsupportedPickle("a torch.Size of something else")
    return values


def _empty() -> OrderedDict[str, Any]:
    return OrderedDict()


def _ordered(pairs: Any = ()) -> OrderedDict[str, Any]:
    """Build an OrderedDict as Python 2 pickles it, from a list of pairs with string keys."""
    if type(pairs) not in (list, tuple) or any(type(p) not in (list, tuple) or len(p) != 2 for p in pairs):
        raise UnsupportedPickle("an OrderedDict of something other than pairs")
    if any(type(key) is not str for key, _ in pairs):
        raise UnsupportedPickle("an OrderedDict with a key that is not a string")
    return OrderedDict(pairs)


class Dtype:
    """A NumPy type: its name and byte order."""

    def __init__(self, name: Any = "", *_: Any) -> None:
        if type(name) is not str or name not in ARRAYS:
            raise UnsupportedPickle(f"an array of type {ascii(name)[:20] if type(name) is str else type(name).__name__}")
        self.name, self.order = name, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.name)


class Array:
    """A NumPy array."""

    def __init__(self, *_: Any) -> None:
        self.value: np.ndarray[Any, Any] = np.empty(0, np.float32)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, Dtype) or type(data) is not bytes:
            raise UnsupportedPickle("an array of objects")
        if type(shape) is not tuple or len(shape) > MAX_AXES or not all(map(is_count, shape)):
            raise DamagedFile("an array's shape is not a tuple of whole numbers")
        if len(data) != math.prod(shape) * dtype.numpy.itemsize:
            raise DamagedFile(f"an array of shape {shape} has {len(data)} bytes")
        array = np.frombuffer(data, dtype.numpy).reshape(shape, order="F" if fortran else "C")
        self.value = array.astype(array.dtype.newbyteorder("="))  # a copy that may be written


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> Array:
    array = Array()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


def _scalar(dtype: Any, data: Any) -> float:
    if not isinstance(dtype, Dtype) or type(data) is not bytes or len(data) != dtype.numpy.itemsize:
        raise UnsupportedPickle("a number of an unknown type")
    return float(np.frombuffer(data, dtype.numpy)[0])


class Object(Record):
    """Stands in for an object whose class is known to be harmless: its state is kept, and nothing is done with it."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.update(state if isinstance(state, dict) else {"state": state})


def _bytes(text: Any = "", encoding: Any = "latin1") -> bytes:
    """Encode text as bytes, which is how Python 3 pickles bytes in protocol 2."""
    if type(text) is not str or encoding != "latin1":
        raise UnsupportedPickle("bytes that are not latin1 text")
    return text.encode("latin1")


KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _ordered,
    ("collections", "defaultdict"): Object,
    ("builtins", "dict"): _empty,
    ("__builtin__", "dict"): _empty,
    ("__builtin__", "bytes"): _bytes,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): _size,
    ("_codecs", "encode"): _bytes,
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): Dtype,
    ("dnnlib.tflib.network", "Network"): Object,
    ("dnnlib.util", "EasyDict"): Object,
    ("dnnlib", "EasyDict"): Object,
    ("argparse", "Namespace"): Object,
}
KNOWN |= {("torch", name): StorageType(dtype) for name, dtype in DTYPES.items()}
KNOWN |= {("tracker", name): Object for name in ("LossTracker", "RunningMean", "RunningMeanTorch")}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    KNOWN |= {(_module, "_reconstruct"): Array, (_module, "scalar"): _scalar}
    KNOWN[_module.replace("multiarray", "numeric"), "_frombuffer"] = _from_buffer
STAND_INS = {id(value) for value in KNOWN.values()}
"""The identities of all objects that a pickle can name."""
