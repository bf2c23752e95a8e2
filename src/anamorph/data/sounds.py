"""Datasets of sounds: stored windows of samples, labels, a split and an order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.signal import Audio, Batch, Label
from anamorph.data.dataset import Dataset
from anamorph.data.decode_sound import PcmSamples
from anamorph.data.order import Integers, indices

__all__ = ["Sounds", "Windows", "from_pcm"]


class Windows(Protocol):
    """Stored sounds of one length as 16-bit samples."""

    @property
    def audio(self) -> Audio: ...
    @property
    def fingerprint(self) -> str:
        """Hash of the content, wherever it is stored."""
        ...

    def __len__(self) -> int: ...
    def read(self, rows: Integers) -> PcmSamples:
        """Return sounds [n, C, T]."""
        ...


@dataclass(frozen=True, repr=False)
class Sounds(Dataset):
    """A dataset of sounds; `windows` holds those of all splits, and `Dataset` describes the other fields."""

    name: str
    windows: Windows
    rows: Integers
    labels: tuple[Label, ...] = ()
    values: Mapping[str, Integers] = field(default_factory=dict)
    seed: int | None = 0
    notes: tuple[str, ...] = ()

    @property
    def signal(self) -> Audio:
        return self.windows.audio

    @property
    def fingerprint(self) -> str:
        return self._digest(self.windows.fingerprint, str(self.signal), self.seed, self.labels)

    def take(self, start: int, count: int, level: int = 0) -> Batch:
        if level:
            raise UserError(f"{self.name} holds sounds, which are never halved: choose a model that does not grow")
        rows = self.rows[indices(self.size, start, count, self.seed)]
        return Batch(from_pcm(self.windows.read(rows)), self._labels_of(rows))

    def in_order(self) -> Sounds:
        return replace(self, seed=None)

    def shuffled(self) -> Sounds:
        return replace(self, seed=0)

    def with_labels(self, names: Sequence[str]) -> Sounds:
        return replace(self, labels=self._labels_named(names))


def from_pcm(samples: PcmSamples) -> Tensor:
    """Convert 16-bit samples to floats in [-1, 1]."""
    return torch.from_numpy(np.multiply(samples, np.float32(2**-15), dtype=np.float32))
