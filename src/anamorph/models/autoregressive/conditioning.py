"""The conditioning of an autoregressive prior on a class, and on coarser grids of codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn.functional import one_hot

from anamorph.core.errors import UserError
from anamorph.core.space import Codes, Space
from anamorph.nn.joint_class import joint_class, joint_classes
from anamorph.nn.resample import upsample

__all__ = ["Conditioning"]


class Conditioning(nn.Module):
    """Features [B, F, H, W] of coarser grids of codes, on the grid of `space`; and the class of each example.

    Args:
        space: the grid (maps, H, W) or the sequence (maps, T) whose codes are conditioned.
        conditions: classes, whose combinations count as one class, and coarser grids.
        net: builds the network that reads one grid of one-hot codes [B, maps * K, h, w] (or [B, maps * K, t]), given its number
            of channels; its output is upsampled.
        coarse: leave the features on the finest of the grids in `conditions`.

    Raises:
        UserError: for real codes, and for a grid whose sides, times a power of two, are not those of the space.
    """

    def __init__(
        self, space: Space, conditions: Sequence[Space], net: Callable[[int], nn.Module], coarse: bool = False
    ) -> None:
        super().__init__()
        self.labels = [s for s in conditions if s.shape == ()]
        self.grids = [s for s in conditions if s.shape != ()]
        self.num_classes = joint_classes(self.labels) if self.labels else 0
        doublings = [_doublings(space, grid) for grid in self.grids]
        least = min(doublings, default=0) if coarse else 0
        self.doublings = [times - least for times in doublings]
        self.nets = nn.ModuleList(net(grid.shape[0] * (grid.num_codes or 0)) for grid in self.grids)

    def forward(self, condition: Codes) -> Tensor | None:
        """Return the sum of the features of all grids; None without grids."""
        total: Tensor | None = None
        for grid, net, times in zip(self.grids, self.nets, self.doublings, strict=True):
            ids = one_hot(condition[grid.name], grid.num_codes or 0).movedim(-1, 2).flatten(1, 2).float()
            features = net(ids)
            features = features.repeat_interleave(1 << times, 2) if features.dim() == 3 else upsample(features, times)
            total = features if total is None else total + features
        return total

    def label(self, condition: Codes) -> Tensor | None:
        """Return the class of each example [B]; None without classes."""
        if not self.labels:
            return None
        first = condition[self.labels[0].name]
        return joint_class(self.labels, condition, len(first), first.device)


def _doublings(space: Space, grid: Space) -> int:
    """Return how many times the sides of a grid are doubled to become those of a space."""
    ratio = space.shape[-1] // grid.shape[-1]
    fits = ratio >= 1 and not ratio & (ratio - 1) and tuple(n * ratio for n in grid.shape[1:]) == space.shape[1:]
    if grid.is_real or not fits:
        raise UserError(
            f"codes of {space} cannot be conditioned on {grid}: its sides, times a power of two, must be those of {space.name}"
        )
    return ratio.bit_length() - 1
