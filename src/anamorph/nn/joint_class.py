"""Several classes as one joint class, on which distributions in closed form are conditioned."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.space import Codes, Space

__all__ = ["check_class_conditions", "joint_class", "joint_classes"]


def check_class_conditions(conditions: Sequence[Space]) -> None:
    """Check conditions.

    Raises: UserError unless every condition is one class per example.
    """
    for space in conditions:
        if space.shape != () or space.is_real:
            raise UserError(f"a distribution in closed form can be conditioned on classes alone, got {space}")


def joint_classes(conditions: Sequence[Space]) -> int:
    """Return the number of combinations of the conditions' classes; 1 without conditions."""
    return math.prod(space.num_codes or 1 for space in conditions)


def joint_class(conditions: Sequence[Space], condition: Codes, n: int, device: torch.device) -> Tensor:
    """Return the combination that each of n examples has [n], in 0 .. joint_classes - 1; the last condition counts fastest."""
    joint = torch.zeros(n, dtype=torch.long, device=device)
    for space in conditions:
        joint = joint * (space.num_codes or 1) + condition[space.name]
    return joint
