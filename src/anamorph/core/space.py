"""Latent spaces and codes, described as data, so that tools need not know which model they belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from anamorph.core.errors import UserError, nearest
from anamorph.core.files import read_tensors, write_tensors

__all__ = ["Codes", "Role", "Space", "check_codes", "concatenate", "read_codes", "write_codes"]

Codes = dict[str, Tensor]
"""One tensor per space, keyed by the space's name, each [B, *space.shape]."""

Role = Literal["latent", "label", "noise"]
"""What a space is to its model.

latent: an encoder infers it and a prior is a distribution over it. label: a class that the data or the user give, such as the
speaker. noise: detail that the decoder has an answer without, and that no encoder infers.
"""


@dataclass(frozen=True)
class Space:
    """One variable that `decode` reads.

    Args:
        name: unique within the model, such as "z", "w" or "codes".
        shape: of one example. Discrete grids are (maps, H, W) or (maps, T); a single class is ().
        num_codes: None for real numbers; K for whole numbers 0..K-1.
        layered: axis 0 runs over synthesis layers, coarse first, so that styles can be mixed.
        optional: `decode` has an answer without it.
        ordered: for whole numbers, whether near ones mean nearly the same (amplitudes) or are mere names.
        role: latent, label or noise.
    """

    name: str
    shape: tuple[int, ...]
    num_codes: int | None = None
    layered: bool = False
    optional: bool = False
    ordered: bool = False
    role: Role = "latent"

    def __str__(self) -> str:
        kind = "real" if self.num_codes is None else f"0..{self.num_codes - 1}"
        marks = ", layered" * self.layered + ", optional" * self.optional
        return f"{self.name} {list(self.shape)} {kind}{marks}"

    @property
    def is_real(self) -> bool:
        """Whether its codes are real numbers, between which there are others."""
        return self.num_codes is None


def concatenate(chunks: Sequence[Mapping[str, Tensor]]) -> Codes:
    """Concatenate codes along the batch, in the spaces that all chunks have."""
    common = [name for name in chunks[0] if all(name in chunk for chunk in chunks)]
    return {name: torch.cat([chunk[name] for chunk in chunks]) for name in common}


def check_codes(codes: Codes, spaces: Sequence[Space], values: bool = True) -> int:
    """Return the number of examples in codes that fit the spaces.

    Args:
        codes: one tensor per space; optional spaces may be missing.
        spaces: the spaces that the codes must fit.
        values: also check that whole numbers are in their range.

    Raises:
        UserError: for a missing or unknown space, a wrong shape, unequal batches, or numbers out of range.
    """
    known = {space.name: space for space in spaces}
    for name in codes:
        if name not in known:
            raise UserError(f"codes of an unknown space {name!r}: {nearest(name, known)}")
    sizes = set()
    for space in spaces:
        if space.name not in codes:
            if space.optional:
                continue
            raise UserError(f"codes lack the space {space}, got {', '.join(codes) or 'none'}")
        value = codes[space.name]
        if tuple(value.shape[1:]) != space.shape:
            raise UserError(f"codes of {space.name!r} are {list(value.shape)}, wanted [B, {', '.join(map(str, space.shape))}]")
        if values and space.num_codes is not None and not _in_range(value, space.num_codes):
            raise UserError(f"codes of {space.name!r} must be whole numbers 0..{space.num_codes - 1}")
        sizes.add(len(value))
    if len(sizes) > 1:
        raise UserError(f"codes of unequal batches: {sorted(sizes)}")
    return sizes.pop() if sizes else 0


def _in_range(value: Tensor, num_codes: int) -> bool:
    if value.is_floating_point() or value.numel() == 0:
        return not value.is_floating_point()
    return bool(value.min() >= 0) and bool(value.max() < num_codes)


def write_codes(path: Path, codes: Codes, spaces: Sequence[Space], metadata: Mapping[str, str] | None = None) -> None:
    """Write codes as safetensors, with their spaces, and any metadata about their origin.

    Raises:
        UserError: if the codes do not fit the spaces.
    """
    check_codes(codes, spaces)
    described = json.dumps([asdict(space) for space in spaces if space.name in codes])
    write_tensors(path, {name: value.cpu() for name, value in codes.items()}, {"spaces": described, **(metadata or {})})


def read_codes(path: Path) -> tuple[Codes, tuple[Space, ...], dict[str, str]]:
    """Read codes (real ones as float32), their spaces, and the metadata written beside them.

    Raises:
        UserError: if the file cannot be read as codes.
    """
    tensors, metadata = read_tensors(path)
    try:
        spaces = tuple(_space(values) for values in json.loads(metadata.pop("spaces")))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} holds no codes (no spaces in its metadata): write it with `anamorph encode`") from error
    check_codes(tensors, spaces)
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UserError(f"{path}: the codes of {name!r} are not finite")
    return {name: v.float() if v.is_floating_point() else v for name, v in tensors.items()}, spaces, metadata


def _space(values: Mapping[str, Any]) -> Space:
    """Return a space from its fields as JSON. Older files have no role, and call the number of codes `vocabulary`."""
    fields = {"num_codes" if name == "vocabulary" else name: value for name, value in values.items()}
    fields["shape"] = tuple(fields["shape"])
    if "role" not in fields:
        label = fields["shape"] == () and fields.get("num_codes") is not None
        fields["role"] = "label" if label else "noise" if fields.get("optional") else "latent"
    return Space(**fields)
