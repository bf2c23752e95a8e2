"""The distribution of each code given those before it, computed identically by the encoder and the decoder of files.

The last bits of a network's output depend on the batch size, the position in the batch and the number of threads, and one
different bit makes all later codes wrong. Both sides therefore decode in batches of one size, each example in the same lane,
on one thread, in single precision. The content of the other lanes does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from anamorph.coding.range_coder import Frequencies, Ids, frequencies
from anamorph.core.errors import UserError
from anamorph.core.model import LatentModel, public_name
from anamorph.core.progress import Progress, no_progress
from anamorph.core.space import Codes, Space
from anamorph.models.autoregressive.common import Autoregressive
from anamorph.models.two_stage import ChainedPrior, TwoStageModel

__all__ = ["LANES", "CodeSource", "Position", "decode_lockstep", "distributions_of", "fixed_arithmetic", "num_positions"]

LANES = 16
"""Examples per batch: a compromise, since one image would be faster with fewer and hundreds with more."""

Position = tuple[int, int, int]
"""Map, row and column."""
CodeSource = Callable[[Space, Position, Frequencies], Ids]
"""Given a space, a position and the distributions [LANES, K] of its codes, returns the codes [LANES]."""


def distributions_of(model: LatentModel) -> tuple[TwoStageModel, tuple[Autoregressive, ...]]:
    """Return a two-stage model and its autoregressive priors, in their order.

    Raises:
        UserError: if the model has no autoregressive prior, or is not in float32 on the CPU.
    """
    if not isinstance(model, TwoStageModel):
        raise UserError(
            f"compression needs a model with a prior over its codes, and this {public_name(model)} has none: train one with "
            f"`anamorph train pixelcnn SOURCE --codes-of RUN`"
        )
    distributions = tuple(model.prior.stages) if isinstance(model.prior, ChainedPrior) else (model.prior,)
    for distribution in distributions:
        if not isinstance(distribution, Autoregressive):
            raise UserError(
                f"compression needs an autoregressive prior, got {type(distribution).__name__}: train pixelcnn or pixelsnail"
            )
    for weight in model.parameters():
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            raise UserError(f"compression is done in float32 on the CPU, got {weight.dtype} on {weight.device}: load it there")
    return model, distributions  # type: ignore[return-value]


def num_positions(distributions: Sequence[Autoregressive]) -> int:
    """Count the positions that incremental decoding visits."""
    return sum(height * width for _, height, width in (distribution.grid for distribution in distributions))


@contextmanager
def fixed_arithmetic() -> Iterator[None]:
    """Compute on one thread, in float32, without gradients; restores the settings afterwards."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


def decode_lockstep(
    distributions: Sequence[Autoregressive], condition: Codes, code_source: CodeSource, progress: Progress = no_progress
) -> Codes:
    """Decode position by position; returns the codes [LANES, *shape] of all spaces.

    Args:
        distributions: the priors, in their order.
        condition: classes [LANES], by label.
        code_source: returns the codes of a position.
        progress: called with the positions done, and their total.
    """
    codes: Codes = {}
    done, total = 0, num_positions(distributions)
    for distribution in distributions:
        maps, height, width = distribution.grid
        known = condition | codes
        decoder = distribution.decoder(LANES, {space.name: known[space.name] for space in distribution.conditions})
        ids = torch.zeros(LANES, maps, height, width, dtype=torch.long)
        for r in range(height):
            decoder.row(r)
            for c in range(width):
                here = ids[:, :, r, c]
                for m in range(maps):
                    here[:, m] = _as_ids(
                        code_source(distribution.space, (m, r, c), frequencies(decoder.logits(r, c, here)[:, m]))
                    )
                decoder.put(r, c, here)
                done += 1
                progress(done, total)
        codes[distribution.space.name] = ids.view(LANES, *distribution.space.shape)
    return codes


def _as_ids(ids: Ids) -> Tensor:
    return torch.from_numpy(ids).long()
