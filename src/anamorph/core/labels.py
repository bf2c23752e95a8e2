"""Codes that are labels: one number per example, such as who speaks, which `decode` reads and `encode` need not tell."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.model import Encodes, LatentModel, encode_in_chunks
from anamorph.core.signal import Batch
from anamorph.core.space import Codes

__all__ = ["add_labels", "encode_batch", "label_sizes", "with_labels"]


def label_sizes(model: LatentModel) -> dict[str, int]:
    """The codes of a model that are labels: how many classes each has, by its name."""
    return {space.name: space.num_codes or 0 for space in model.spaces if space.is_label}


def with_labels(codes: Codes, labels: Mapping[str, int]) -> Codes:
    """Codes of which all examples have these classes instead of their own."""
    some = next(iter(codes.values()))
    return {**codes, **{name: torch.full((len(some),), number, device=some.device) for name, number in labels.items()}}


def add_labels(model: LatentModel, codes: Codes, labels: Mapping[str, Tensor], source: str) -> Codes:
    """Codes with the classes that the model decodes and its encoder does not tell, from the labels of the data.

    Raises: UserError if the data do not tell one that cannot be left out.
    """
    found, optional = dict(codes), {space.name for space in model.spaces if space.optional}
    for name in label_sizes(model):
        if name in found:
            continue
        if name in labels:
            found[name] = labels[name].to(next(iter(codes.values())).device)
        elif name not in optional:
            raise UserError(f"this model decodes {name!r}, which {source} does not tell: choose one, as in --label {name}=0")
    return found


def encode_batch(model: Encodes, batch: Batch, source: str = "the source") -> Codes:
    """All codes of a batch of signals: those that the model finds, and the labels that it decodes with them."""
    return add_labels(model, encode_in_chunks(model, batch.signals), batch.labels, source)
