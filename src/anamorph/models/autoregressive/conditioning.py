"""What a prior over one level of codes is told: a class, and coarser levels that are known already."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn.functional import one_hot

from anamorph.core.errors import UserError
from anamorph.core.space import Codes, Space
from anamorph.nn.resample import upsample

__all__ = ["Conditioning"]


class Conditioning(nn.Module):
    """Features [B, F, H, W] of the coarser grids of codes that are given, on the grid of `space`; and the class.

    net: makes the net that reads the one-hot codes [B, maps * K, h, w] of one grid, before they are enlarged. Grids may be
    sequences [B, maps * K, t], too. coarse: features stay on the finest of the grids that are given.
    Raises: UserError for more than one label, or a grid whose sides, doubled so and so often, are not those of the space.
    """

    def __init__(
        self, space: Space, conditions: Sequence[Space], net: Callable[[int], nn.Module], coarse: bool = False
    ) -> None:
        super().__init__()
        labels = [s for s in conditions if s.shape == ()]
        if len(labels) > 1:
            raise UserError(f"one label at most can be given, got {', '.join(s.name for s in labels)}")
        self.labels, self.grids = labels, [s for s in conditions if s.shape != ()]
        self.num_classes = labels[0].num_codes or 0 if labels else 0
        doublings = [_doublings(space, grid) for grid in self.grids]
        least = min(doublings, default=0) if coarse else 0
        self.doublings = [times - least for times in doublings]
        self.nets = nn.ModuleList(net(grid.shape[0] * (grid.num_codes or 0)) for grid in self.grids)

    def forward(self, condition: Codes) -> Tensor | None:
        total: Tensor | None = None
        for grid, net, times in zip(self.grids, self.nets, self.doublings, strict=True):
            ids = one_hot(condition[grid.name], grid.num_codes or 0).movedim(-1, 2).flatten(1, 2).float()
            features = net(ids)
            features = features.repeat_interleave(1 << times, 2) if features.dim() == 3 else upsample(features, times)
            total = features if total is None else total + features
        return total

    def label(self, condition: Codes) -> Tensor | None:
        """The class of each example [B]."""
        return condition[self.labels[0].name] if self.labels else None


def _doublings(space: Space, grid: Space) -> int:
    ratio = space.shape[-1] // grid.shape[-1]
    if (
        grid.num_codes is None
        or ratio < 1
        or ratio & (ratio - 1)
        or tuple(n * ratio for n in grid.shape[1:]) != space.shape[1:]
    ):
        raise UserError(f"codes of {space} cannot be told of {grid}: its sides, doubled so and so often, are not theirs")
    return ratio.bit_length() - 1
