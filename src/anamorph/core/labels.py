"""Labels among the codes: one class per example, such as the speaker, which `decode` reads and no encoder infers."""

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
    """Return the number of classes of each label that a model decodes, by its name."""
    return {space.name: space.num_codes or 0 for space in model.spaces if space.role == "label"}


def with_labels(codes: Codes, labels: Mapping[str, int]) -> Codes:
    """Return codes of which all examples have these classes instead of their own."""
    some = next(iter(codes.values()))
    return {**codes, **{name: torch.full((len(some),), number, device=some.device) for name, number in labels.items()}}


def add_labels(model: LatentModel, codes: Codes, labels: Mapping[str, Tensor], source: str) -> Codes:
    """Add to codes the labels that the model decodes and its encoder does not infer.

    Args:
        model: decodes the codes.
        codes: of its latent spaces, [B, ...] each.
        labels: the class of each example [B], by the label's name.
        source: where the labels come from, for messages.

    Raises:
        UserError: if a label that the decoder needs is missing.
    """
    complete, optional = dict(codes), {space.name for space in model.spaces if space.optional}
    for name in label_sizes(model):
        if name in complete:
            continue
        if name in labels:
            complete[name] = labels[name].to(next(iter(codes.values())).device)
        elif name not in optional:
            raise UserError(f"this model decodes {name!r}, which {source} does not give: choose one, as in --label {name}=0")
    return complete


def encode_batch(model: Encodes, batch: Batch, source: str = "the source") -> Codes:
    """Encode a batch of signals, and add the labels that the model decodes with the codes."""
    return add_labels(model, encode_in_chunks(model, batch.signals, batch.labels), batch.labels, source)
