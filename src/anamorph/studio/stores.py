"""Caches of what clients have uploaded or computed, by a digest of the content."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor

__all__ = ["DIGEST", "Store", "digest_of"]

T = TypeVar("T")
DIGEST = re.compile(r"[0-9a-f]{32}")
"""Pattern of digests."""


class Store(Generic[T]):
    """A least-recently-used cache of values with sizes. It is thread-safe.

    Args:
        capacity: the largest sum of sizes; one value is stored even if it is larger.
        size_of: returns the size of a value; by default 1.
    """

    def __init__(self, capacity: int, size_of: Callable[[T], int] = lambda _: 1) -> None:
        self._capacity, self._size_of, self._size = capacity, size_of, 0
        self._values, self._lock = OrderedDict[str, T](), threading.Lock()

    def put(self, digest: str, value: T) -> str:
        """Store a value; return its digest."""
        with self._lock:
            if digest in self._values:
                self._size -= self._size_of(self._values.pop(digest))
            self._values[digest] = value
            self._size += self._size_of(value)
            while self._size > self._capacity and len(self._values) > 1:
                self._size -= self._size_of(self._values.popitem(last=False)[1])
        return digest

    def get(self, digest: str) -> T | None:
        """Return the value of a digest; None if it is not stored, or has been removed."""
        with self._lock:
            if digest in self._values:
                self._values.move_to_end(digest)
            return self._values.get(digest)

    def __len__(self) -> int:
        return len(self._values)


def digest_of(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """Return a digest of tensors and a text."""
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {list(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
