"""Features of many images, and what they are features of; refused where they can tell nothing."""

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


def check_features(x: Tensor, what: str, least: int = 2, why: str = "") -> None:
    """Raises: UserError if features [N, D] are not a matrix of finite numbers, are too few (why: what fewer would do), or are
    the same for every image."""
    if x.dim() != 2:
        raise UserError(f"the features of {what} are {list(x.shape)}, wanted [N, D]: flatten each image's")
    if len(x) < least:
        raise UserError(f"{len(x)} {what} are too few, at least {least:,} are needed{': ' + why if why else ''}")
    parts = x.split(4096)
    suspect = [part for part in parts if not bool(torch.isfinite(part.sum()))]
    rows = sum(int((~torch.isfinite(part)).any(1).sum()) for part in suspect)
    if rows:
        raise UserError(
            f"the features of {rows} of {len(x)} {what} are not finite: look at these images, or use another feature network"
        )
    if all(bool((part == x[0]).all()) for part in parts):
        raise UserError(
            f"the features of all {len(x)} {what} are the same: the images are alike, or the network sees nothing in them"
        )


def check_pair(a: Tensor, b: Tensor, least: int = 2, why: str = "") -> None:
    """Raises: UserError as `check_features` for either of real features a [N, D] and generated ones b [M, D], and if their
    widths differ."""
    check_features(a, "real images", least, why)
    check_features(b, "generated images", least, why)
    if a.shape[1] != b.shape[1]:
        raise UserError(
            f"real features have {a.shape[1]} numbers and generated ones {b.shape[1]}: take both from the same network"
        )
