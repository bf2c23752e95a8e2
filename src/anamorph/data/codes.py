"""The codes of a source of images, found once by a model, as a source of their own.

A folder of plain files: codes.json says what they are (the spaces with their vocabularies and grids, the labels, how often
each code is used, of which model and which images), the shards beside it hold the codes (whole numbers, or real ones) and the
labels.
A shard is written whole or not at all, so that an extraction which was killed goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.files import read_json, read_metadata, read_tensors, write_json, write_tensors
from anamorph.core.fingerprint import fingerprint_of
from anamorph.core.model import Encodes, code_spaces, encode_in_chunks
from anamorph.core.progress import Progress, no_progress
from anamorph.core.signal import Batch, Label, Signal
from anamorph.core.space import Codes, Space, check_codes
from anamorph.data.dataset import Dataset
from anamorph.data.examples import Examples
from anamorph.data.order import indices

__all__ = ["CodeCounts", "CodeDataset", "encode_dataset"]

FORMAT = 1
SHARD = 8192
"""Examples in a file."""
DEAD = 0.5
"""A codebook of which less than this share is used is worth a warning."""
LABEL = "label."


@dataclass(frozen=True)
class CodeCounts:
    """How often each code of a space was used, over a whole source [K]."""

    space: Space
    counts: tuple[int, ...]

    @staticmethod
    def of(space: Space, ids: Tensor) -> CodeCounts:
        return CodeCounts(space, tuple(torch.bincount(ids.flatten().long(), minlength=space.num_codes or 0).tolist()))

    @property
    def used(self) -> int:
        return sum(count > 0 for count in self.counts)

    @property
    def perplexity(self) -> float:
        """How many codes there would be if all were used alike."""
        shares = torch.tensor(self.counts, dtype=torch.float64) / max(sum(self.counts), 1)
        return float(torch.special.entr(shares).sum().exp())

    def __str__(self) -> str:
        k = self.space.num_codes or 0
        return f"{self.space.name}: {self.used} of {k} codes are used, perplexity {self.perplexity:.1f}"

    def check(self) -> None:
        """Check the use of codes. Raises: UserError if all codes are the same one, which leaves nothing to learn."""
        if self.used <= 1:
            raise UserError(
                f"every code of {self.space.name!r} is the same: the model says nothing through it. Train it longer, or anew "
                f"with --model.kmeans-init and --model.restart-threshold 0.01"
            )

    def warning(self) -> str:
        """Return what is wrong and what to do; empty if nothing is."""
        if self.used >= DEAD * (self.space.num_codes or 0):
            return ""
        return (
            f"most codes of {self.space.name!r} are never used ({self.used} of {self.space.num_codes}): the model could do "
            f"with a smaller --model.num-embeddings, or a higher --model.restart-threshold"
        )


@dataclass(frozen=True, repr=False)
class CodeDataset(Examples):
    """A dataset of codes, in the order of the images that they encode.

    Attributes:
        signal: size of the images.
        values: the class of each example, by label.
        usage: how often each code is used, one entry per space that has a vocabulary.
    """

    signal: Signal
    codes: Codes
    labels: tuple[Label, ...]
    values: Mapping[str, Tensor]
    fingerprint: str
    usage: tuple[CodeCounts, ...]
    name: str
    seed: int | None = 0

    @property
    def size(self) -> int:
        return len(next(iter(self.codes.values())))

    def __repr__(self) -> str:
        return self._describe("CodeDataset", f"codes of {', '.join(self.codes)}")

    @property
    def notes(self) -> tuple[str, ...]:
        """How the codes are used, for the user to read."""
        return tuple(text for u in self.usage for text in (str(u), u.warning()) if text)

    def take(self, start: int, count: int, level: int = 0) -> Batch:
        rows = torch.from_numpy(indices(self.size, start, count, self.seed))
        codes = {name: value[rows] if value.is_floating_point() else value[rows].long() for name, value in self.codes.items()}
        return Batch(codes, {label.name: self.values[label.name][rows].long() for label in self.labels})


@torch.no_grad()
def encode_dataset(model: Encodes, images: Dataset, folder: Path, progress: Progress = no_progress) -> CodeDataset:
    """Return the codes of all images, in their own order, in a folder inside `folder` that is named by the model and the
    images.

    What is there already is read, and not computed again.
    Raises: UserError if the codes are all the same, or not finite, or a file in the folder is of another model.
    """
    spaces = code_spaces(model)
    name = f"{fingerprint_of(model)}-{images.fingerprint}"
    here, plain = folder / name, images.in_order()
    shards = [here / f"{i:05d}.safetensors" for i in range(-(-images.size // SHARD))]
    device = next(iter(model.state_dict().values()), torch.empty(0)).device
    for i, shard in enumerate(shards):
        if not _is_whole(shard, name):
            batch = plain.take(i * SHARD, min(SHARD, images.size - i * SHARD))
            codes = encode_in_chunks(model, batch.signals.to(device), batch.labels)
            check_codes(codes, spaces)
            tensors = {s.name: codes[s.name].to("cpu", _narrow(s.num_codes)) for s in spaces}
            tensors |= {LABEL + label: value.to(torch.int32) for label, value in batch.labels.items()}
            write_tensors(shard, tensors, {"fingerprint": name})
        progress(min((i + 1) * SHARD, images.size), images.size)
    return _read(here, name, spaces, images, shards)


def _narrow(vocabulary: int | None) -> torch.dtype:
    if vocabulary is None:
        return torch.float32
    return torch.int16 if vocabulary <= 2**15 else torch.int32


def _is_whole(shard: Path, fingerprint: str) -> bool:
    """Return whether the folder is complete. Raises: UserError if it is of something else."""
    if not shard.is_file():
        return False
    try:
        found = read_metadata(shard).get("fingerprint")
    except UserError:
        return False
    if found != fingerprint:
        raise UserError(f"{shard} holds codes of another model or of other images ({found}): remove its folder")
    return True


def _read(here: Path, name: str, spaces: Sequence[Space], images: Dataset, shards: Sequence[Path]) -> CodeDataset:
    parts = [read_tensors(shard)[0] for shard in shards]
    joined = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    codes = {s.name: joined[s.name] for s in spaces}
    check_codes(codes, spaces)
    usage = tuple(CodeCounts.of(s, codes[s.name]) for s in spaces if s.num_codes is not None)
    for found in usage:
        found.check()
    for space in spaces:
        if space.num_codes is None:
            _check_real(space, codes[space.name])
    values = {label.name: joined[LABEL + label.name] for label in images.labels}
    _describe(here / "codes.json", name, images, spaces, usage)
    return CodeDataset(images.signal, codes, images.labels, values, name, usage, images.name, images.seed)


def _check_real(space: Space, codes: Tensor) -> None:
    """Check real codes. Raises: UserError if they are not finite, or all the same."""
    if not bool(torch.isfinite(codes).all()):
        raise UserError(
            f"codes of {space.name!r} are not finite: the model is broken. Train it anew, at a lower --model.learning-rate"
        )
    if torch.equal(codes, codes[:1].expand_as(codes)):
        raise UserError(
            f"every code of {space.name!r} is the same: the model says nothing through it. Train it longer, or anew"
        )


def _describe(path: Path, name: str, images: Dataset, spaces: Sequence[Space], usage: Sequence[CodeCounts]) -> None:
    described: dict[str, Any] = {
        "format": FORMAT,
        "fingerprint": name,
        "images": images.name,
        "size": images.size,
        "signal": asdict(images.signal),
        "spaces": [asdict(space) for space in spaces],
        "labels": {label.name: list(label.classes) for label in images.labels},
        "usage": {u.space.name: list(u.counts) for u in usage},
    }
    if not path.is_file() or read_json(path) != described:
        write_json(path, described)
