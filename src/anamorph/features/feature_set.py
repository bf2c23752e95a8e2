"""Sets of features of images, and the checks that metrics make of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from anamorph.core.errors import UserError

__all__ = ["FeatureSet", "check_features", "check_pair"]


@dataclass(frozen=True)
class FeatureSet:
    """Features [N, D] of images; the network they come from, how images were resized for it, and which images they are."""

    values: Tensor
    network: str
    resizer: str
    images: str

    def __len__(self) -> int:
        return len(self.values)


def check_features(x: Tensor, description: str, minimum: int = 2, reason: str = "") -> None:
    """Check that features of images are usable.

    Args:
        x: the features [N, D].
        description: which images they are of, for messages.
        minimum: fewest images that are allowed.
        reason: why fewer are not enough, for messages.

    Raises:
        UserError: if the features are no matrix, too few, not finite, or the same for every image.
    """
    if x.dim() != 2:
        raise UserError(
            f"the features of {description} are {list(x.shape)}, expected [N, D]: flatten the features of each image"
        )
    if len(x) < minimum:
        raise UserError(f"{len(x)} {description} are too few, at least {minimum:,} are needed{': ' + reason if reason else ''}")
    parts = x.split(4096)
    suspect = [part for part in parts if not bool(torch.isfinite(part.sum()))]
    rows = sum(int((~torch.isfinite(part)).any(1).sum()) for part in suspect)
    if rows:
        raise UserError(
            f"the features of {rows} of {len(x)} {description} are not finite: look at these images, "
            "or use another feature network"
        )
    if all(bool((part == x[0]).all()) for part in parts):
        raise UserError(
            f"the features of all {len(x)} {description} are the same: the images are alike, "
            "or the network does not tell them apart"
        )


def check_pair(a: Tensor, b: Tensor, minimum: int = 2, reason: str = "") -> None:
    """Check real features a [N, D] and generated ones b [M, D], as `check_features` does.

    Raises:
        UserError: if either is unusable, or their widths differ.
    """
    check_features(a, "real images", minimum, reason)
    check_features(b, "generated images", minimum, reason)
    if a.shape[1] != b.shape[1]:
        raise UserError(
            f"real features have {a.shape[1]} numbers and generated ones {b.shape[1]}: take both from the same network"
        )
