"""The base of autoregressive priors: rows from the top, columns from the left, then maps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor
from torch.nn.functional import cross_entropy

from anamorph.core.errors import UserError
from anamorph.core.precision import autocast_off
from anamorph.core.prior import Prior, SamplingOptions
from anamorph.core.random import Random
from anamorph.core.space import Codes, Space
from anamorph.nn.incremental import IncrementalDecoder, sample_ids

__all__ = ["Autoregressive", "require_grid", "require_sequence"]


class Autoregressive(Prior):
    """A distribution over one discrete space (maps, H, W), (maps, T) or (T,): the product of p(code | codes before it)."""

    space: Space

    @property
    def grid(self) -> tuple[int, int, int]:
        """(maps, H, W) of its space; a sequence is one row."""
        *maps, last = self.space.shape
        return (maps[0] if maps else 1, maps[1] if len(maps) > 1 else 1, last)

    @abstractmethod
    def logits(self, ids: Tensor, condition: Codes, random: Random | None = None) -> Tensor:
        """Compute the logits [B, *shape, K] of ids [B, *shape], each from those before it.

        Args:
            ids: codes.
            condition: codes of the spaces that it is conditioned on.
            random: given while training, for dropout.
        """

    @abstractmethod
    def decoder(self, n: int, condition: Codes) -> IncrementalDecoder:
        """Return a decoder that computes the same logits position by position, for n examples."""

    def log_prob(self, codes: Codes, condition: Codes | None = None, random: Random | None = None) -> Tensor:
        ids = codes[self.space.name]
        logits = self.logits(ids, condition or {}, random)
        with autocast_off(logits):
            each = cross_entropy(logits.float().flatten(0, -2), ids.flatten(), reduction="none")
        return -each.view(len(ids), -1).sum(1)

    def _sample(self, n: int, random: Random, condition: Codes, options: SamplingOptions) -> Codes:
        uniforms = random.uniform(n, *self.space.shape)
        known = known_mask = None
        if options.mask is not None:
            given = (part[self.space.name].expand(uniforms.shape) for part in (options.mask.codes, options.mask.masks))
            known, known_mask = (part.reshape(n, *self.grid) for part in given)
        decoder, grid = self.decoder(n, condition), uniforms.view(n, *self.grid)
        ids = sample_ids(decoder, grid, options.settings, known, known_mask, options.progress)
        return {self.space.name: ids.view(uniforms.shape)}


def require_grid(spaces: Sequence[Space]) -> Space:
    """Return the space of a prior over one grid of codes.

    Raises: UserError if there are several spaces, or it is no grid of codes.
    """
    if len(spaces) != 1 or spaces[0].num_codes is None or len(spaces[0].shape) != 3:
        names = ", ".join(map(str, spaces)) or "none"
        raise UserError(
            f"this prior is over one grid of codes [maps, H, W], got {names}: for real codes, use gaussian or mixture; for "
            "sounds, wavenet"
        )
    return spaces[0]


def require_sequence(spaces: Sequence[Space]) -> Space:
    """Return the space of a prior over one sequence of codes, as (maps, T).

    Raises: UserError if there are several spaces, or it is no sequence of codes.
    """
    if len(spaces) != 1 or spaces[0].num_codes is None or len(spaces[0].shape) not in (1, 2):
        names = ", ".join(map(str, spaces)) or "none"
        raise UserError(f"this prior is over one sequence of codes [maps, T], got {names}: for images, use pixelcnn")
    return replace(spaces[0], shape=(1, *spaces[0].shape)[-2:])
