"""Which codes of a latent space are used, and how evenly images change along lines through it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.model import LatentModel, decode_in_chunks
from anamorph.core.space import Codes
from anamorph.edit.interpolate import lerp

__all__ = ["CodeUsage", "Smoothness", "active_units", "code_usage", "smoothness"]


@dataclass(frozen=True)
class CodeUsage:
    """How many of a vocabulary are used at all, and how many there would be if all were used alike (exp of the entropy)."""

    used: int
    num_codes: int
    perplexity: float
    counts: Tensor


def code_usage(codes: Tensor, num_codes: int) -> CodeUsage:
    """Return how codes, whole numbers [N, ...] below a vocabulary, are spread over it.

    Raises: UserError if there are none, or one is not of the vocabulary.
    """
    if codes.is_floating_point() or not codes.numel():
        raise UserError(f"usage is counted of whole numbers, got {codes.numel()} of {codes.dtype}")
    if int(codes.min()) < 0 or int(codes.max()) >= num_codes:
        raise UserError(f"codes from {int(codes.min())} to {int(codes.max())}, wanted 0 to {num_codes - 1}")
    counts = torch.bincount(codes.flatten().long(), minlength=num_codes)
    shares = counts.double() / counts.sum()
    return CodeUsage(int((counts > 0).sum()), num_codes, float(torch.special.entr(shares).sum().exp()), counts)


def active_units(means: Tensor, least: float = 0.01) -> Tensor:
    """Which numbers [D] of codes vary with the image: those whose variance over the codes' means [N, D] exceeds `least`.

    Burda et al. 2015, arXiv:1509.00519, section 5.2; of codes on the scale of a standard normal distribution.
    Raises: UserError for fewer than two images, or means that are not finite.
    """
    flat = means.flatten(1).double()
    if len(flat) < 2 or not bool(torch.isfinite(flat).all()):
        raise UserError(f"active units need the finite codes of at least 2 images, got {list(means.shape)}")
    return flat.var(0) > least


@dataclass(frozen=True)
class Smoothness:
    """Of each way [N]. straightness: the distance of its ends over the sum of its steps, 1 if images go straight. evenness: the
    mean step over the longest, 1 if all are alike, and 1 / steps if everything happens at once."""

    straightness: Tensor
    evenness: Tensor


@torch.no_grad()
def smoothness(model: LatentModel, a: Codes, b: Codes, features: Callable[[Tensor], Tensor], steps: int = 16) -> Smoothness:
    """Return how images change along the lines from codes a [N, ...] to codes b, in the features [B, D] of images [B, C, H, W].

    Raises: UserError for fewer than 2 steps, codes that are whole numbers, or ends that look the same.
    """
    if steps < 2:
        raise UserError(f"a way has at least 2 steps, got {steps}")
    discrete = [name for name, code in a.items() if not code.is_floating_point()]
    if discrete:
        raise UserError(f"codes of {', '.join(discrete)} are whole numbers: use a real space")
    count, t = len(next(iter(a.values()))), torch.linspace(0, 1, steps + 1)
    straight, even = [], []
    for i in range(count):
        way = {name: lerp(a[name][i], b[name][i], t.to(a[name])) for name in a}
        seen = features(decode_in_chunks(model, way)).double()
        moved, whole = (seen[1:] - seen[:-1]).norm(dim=1), (seen[-1] - seen[0]).norm()
        if not float(moved.sum()) > 0:
            raise UserError(f"nothing changes along way {i}: its ends look the same to the feature network")
        straight.append(whole / moved.sum())
        even.append(moved.mean() / moved.max())
    return Smoothness(torch.stack(straight), torch.stack(even))
