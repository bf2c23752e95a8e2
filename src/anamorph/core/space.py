"""Latent spaces and codes, described as data, so that tools need not know which model they belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anamorph.core.errors import UserError, nearest
from anamorph.core.files import read_tensors, write_tensors

__all__ = ["Codes", "Space", "check_codes", "concatenate", "read_codes", "write_codes"]

Codes = dict[str, Tensor]
"""One tensor per space, keyed by the space's name, each [B, *space.shape]."""


@dataclass(frozen=True)
class Space:
    """One latent variable that `decode` reads.

    vocabulary: None for real numbers; K for whole numbers 0..K-1. Discrete grids are (maps, H, W) or (maps, T).
    layered: axis 0 runs over synthesis layers, coarse first, so that styles can be mixed.
    optional: `decode` has an answer without it (noise maps).
    ordered: whole numbers of which near ones mean nearly the same (amplitudes); others are mere names.
    """

    name: str
    shape: tuple[int, ...]
    num_codes: int | None = None
    layered: bool = False
    optional: bool = False
    ordered: bool = False

    def __str__(self) -> str:
        kind = "real" if self.num_codes is None else f"0..{self.num_codes - 1}"
        marks = ", layered" * self.layered + ", optional" * self.optional
        return f"{self.name} {list(self.shape)} {kind}{marks}"

    @property
    def is_label(self) -> bool:
        """Whether it is one class per example, such as who speaks: nothing that an encoder finds, but a label that is told."""
        return self.shape == () and self.num_codes is not None


def concatenate(parts: Sequence[Mapping[str, Tensor]]) -> Codes:
    """Codes [n, ...] of several parts, in the spaces that all of them have."""
    common = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: torch.cat([part[name] for part in parts]) for name in common}


def check_codes(codes: Codes, spaces: Sequence[Space]) -> int:
    """The number of examples in codes that fit the spaces.

    Raises: UserError for a missing or unknown space, a wrong shape, unequal batches, or numbers out of the vocabulary.
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
        if space.num_codes is not None and not _within(value, space.num_codes):
            raise UserError(f"codes of {space.name!r} must be whole numbers 0..{space.num_codes - 1}")
        sizes.add(len(value))
    if len(sizes) > 1:
        raise UserError(f"codes of unequal batches: {sorted(sizes)}")
    return sizes.pop() if sizes else 0


def _space(values: Mapping[str, Any]) -> Space:
    """A space from its fields as JSON; `vocabulary` is what files of older versions call the number of codes."""
    fields = {"num_codes" if name == "vocabulary" else name: value for name, value in values.items()}
    return Space(**{**fields, "shape": tuple(fields["shape"])})


def _within(value: Tensor, vocabulary: int) -> bool:
    if value.is_floating_point() or value.numel() == 0:
        return not value.is_floating_point()
    return bool(value.min() >= 0) and bool(value.max() < vocabulary)


def write_codes(path: Path, codes: Codes, spaces: Sequence[Space], metadata: Mapping[str, str] | None = None) -> None:
    """Write codes as safetensors, with their spaces (and any facts about their origin) in the metadata."""
    check_codes(codes, spaces)
    described = json.dumps([asdict(space) for space in spaces if space.name in codes])
    write_tensors(path, {name: value.cpu() for name, value in codes.items()}, {"spaces": described, **(metadata or {})})


def read_codes(path: Path) -> tuple[Codes, tuple[Space, ...], dict[str, str]]:
    """Codes (real ones as float32), their spaces, and the facts written beside them.

    Raises: UserError if the file is not readable as codes.
    """
    tensors, facts = read_tensors(path)
    try:
        spaces = tuple(_space(values) for values in json.loads(facts.pop("spaces")))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} holds no codes (no spaces in its metadata): write it with `anamorph encode`") from error
    check_codes(tensors, spaces)
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UserError(f"{path}: the codes of {name!r} are not finite")
    return {name: v.float() if v.is_floating_point() else v for name, v in tensors.items()}, spaces, facts
