"""What clients have brought or found, kept for a while under a digest of its content."""

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


class Store(Generic[T]):
    """Things of so much weight at most, each of 1 by default; the one asked for longest ago goes first. For several threads."""

    def __init__(self, most: int, weigh: Callable[[T], int] = lambda _: 1) -> None:
        self._most, self._weigh, self._weight = most, weigh, 0
        self._kept, self._lock = OrderedDict[str, T](), threading.Lock()

    def put(self, digest: str, value: T) -> str:
        """Keep a thing; returns its digest."""
        with self._lock:
            if digest in self._kept:
                self._weight -= self._weigh(self._kept.pop(digest))
            self._kept[digest] = value
            self._weight += self._weigh(value)
            while self._weight > self._most and len(self._kept) > 1:
                self._weight -= self._weigh(self._kept.popitem(last=False)[1])
        return digest

    def get(self, digest: str) -> T | None:
        """What is kept under a digest; None if it is not, or not any more."""
        with self._lock:
            if digest in self._kept:
                self._kept.move_to_end(digest)
            return self._kept.get(digest)

    def __len__(self) -> int:
        return len(self._kept)


def digest_of(tensors: Mapping[str, Tensor], said: str = "") -> str:
    """Names tensors by their content."""
    digest = hashlib.blake2b(said.encode(), digest_size=16)
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {list(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
