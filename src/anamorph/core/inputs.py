"""Images and sounds as people have them, brought to what a model reads: a batch of float tensors in [-1, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.signal import Audio, Signal

__all__ = ["as_signals"]

LIKE_BYTES = 2.0
"""Floats that are nowhere negative and go beyond this are bytes: decoded signals, which are not clamped, have both signs."""
LIMIT = 1000.0
"""Floats beyond this are no signals at all."""


def as_signals(x: Any, signal: Signal, device: torch.device | str = "cpu") -> Tensor:
    """Bring one or several signals to a batch [B, *signal.shape] of floats in [-1, 1].

    Args:
        x: a tensor or an array of floats in [-1, 1] or of bytes (uint8, 0..255), with or without a batch axis, channels first
            or, for images, last, grey images also without a channel axis; a PIL image; or a list of any of these.
        signal: what the model reads. Nothing is resized: `anamorph.read_images` does that.
        device: where the batch is to be.

    Raises:
        UserError: for another size, another number of channels, or floats that are not in [-1, 1].
    """
    if isinstance(x, Tensor) and x.is_floating_point() and tuple(x.shape[1:]) == signal.shape:
        return _checked(x.to(device))
    if isinstance(x, Sequence) and not isinstance(x, (str, bytes)):
        if not x:
            raise UserError(f"no {signal.noun}s were given")
        return torch.cat([as_signals(one, signal, device) for one in x])
    values = _tensor(x, signal)
    batch = _with_axes(values, signal)
    if batch.dtype == torch.uint8 and not isinstance(signal, Audio):
        return (batch.to(device).float() / 127.5) - 1
    if not batch.is_floating_point():
        kinds = "floats in [-1, 1]" if isinstance(signal, Audio) else "floats in [-1, 1] or bytes (uint8)"
        raise UserError(f"{signal.noun}s are {kinds}, got {batch.dtype}: convert them first")
    return _checked(batch.float().to(device))


def _tensor(x: Any, signal: Signal) -> Tensor:
    if isinstance(x, Tensor):
        return x
    if isinstance(x, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(x))
    if hasattr(x, "convert") and hasattr(x, "getbands"):  # a PIL image, whose library need not be imported here
        mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[signal.shape[0]]
        return torch.from_numpy(np.array(x.convert(mode)))
    raise UserError(f"{signal.noun}s are tensors, arrays, PIL images or lists of these, got {type(x).__name__}")


def _with_axes(x: Tensor, signal: Signal) -> Tensor:
    """Return the same values as [B, *signal.shape], by whichever arrangement of axes fits; channels last before channels
    first.
    """
    channels, *size = signal.shape
    for batched in (True, False):
        shape = tuple(x.shape[1:]) if batched else tuple(x.shape)
        whole = x if batched else x.unsqueeze(0)
        if x.dim() == len(shape) + batched and shape == (*size, channels) and len(size) == 2 and shape != signal.shape:
            return whole.movedim(-1, 1)
        if shape == signal.shape:
            return whole
        if channels == 1 and shape == tuple(size):
            return whole.unsqueeze(1)
    raise UserError(
        f"the model reads {signal.noun}s of {signal}, got values of shape {list(x.shape)}: bring them to that size first"
        + ("" if isinstance(signal, Audio) else ", for instance with anamorph.read_images")
    )


def _checked(x: Tensor) -> Tensor:
    if not torch.compiler.is_compiling() and x.numel():
        low, high = (float(v) for v in torch.aminmax(x))
        if not (low >= -LIMIT and high <= LIMIT) or (low >= 0 and high > LIKE_BYTES):
            raise UserError(
                f"signals are floats in [-1, 1], got values from {low:g} to {high:g}: scale them (bytes: x / 127.5 - 1)"
            )
    return x
