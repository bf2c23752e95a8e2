"""The law of each code given those before it, found in the same way by who writes codes and who reads them.

What a net says of a code depends, in its last bits, on how many examples it works on, on which of them this one is, and on how
many threads there are; one different bit, and all that follows is garbage. Both sides therefore walk in batches of the same
size, each example in the same lane of it, on one thread, in single precision. What stands in the other lanes does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from anamorph.coding.range_coder import Frequencies, Ids, frequencies
from anamorph.core.errors import UserError
from anamorph.core.model import LatentModel
from anamorph.core.progress import Progress, no_progress
from anamorph.core.space import Codes, Space
from anamorph.models.autoregressive.common import Autoregressive
from anamorph.models.two_stage import ChainedPrior, TwoStageModel

__all__ = ["LANES", "CodeSource", "Place", "decode_lockstep", "distributions_of", "fixed_arithmetic", "num_positions"]

LANES = 16
"""Examples in a batch: of 1 to 32, a compromise between one image, which could do with fewer, and hundreds."""

Place = tuple[int, int, int]
"""Map, row and column."""
CodeSource = Callable[[Space, Place, Frequencies], Ids]
"""Told the law [LANES, K] of the codes at a place of a space, says what they are [LANES]."""


def distributions_of(model: LatentModel) -> tuple[TwoStageModel, tuple[Autoregressive, ...]]:
    """A model that has a law of each of its codes given those before it, and these laws in their order.

    Raises: UserError if it has none, or is not in single precision on the processor.
    """
    if not isinstance(model, TwoStageModel):
        raise UserError(
            f"compression needs a model with a prior over its codes, and this {type(model).__name__} has none: train one with "
            f"`anamorph train pixelcnn SOURCE --codes-of RUN`"
        )
    laws = tuple(model.prior.stages) if isinstance(model.prior, ChainedPrior) else (model.prior,)
    for law in laws:
        if not isinstance(law, Autoregressive):
            raise UserError(f"compression needs a prior that goes from code to code, got {type(law).__name__}: use pixelcnn")
    for weight in model.parameters():
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            raise UserError(f"compression is done in float32 on the CPU, got {weight.dtype} on {weight.device}: load it there")
    return model, laws  # type: ignore[return-value]


def num_positions(laws: Sequence[Autoregressive]) -> int:
    """Over how many places a walk goes."""
    return sum(height * width for _, height, width in (law.grid for law in laws))


@contextmanager
def fixed_arithmetic() -> Iterator[None]:
    """One thread, single precision throughout, no gradients; afterwards, as before."""
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
    """Codes [LANES, *shape] of all laws, as `speak` says them one after the other; given: classes [LANES], by name."""
    found: Codes = {}
    done, total = 0, num_positions(distributions)
    for law in distributions:
        maps, height, width = law.grid
        known = condition | found
        walk = law.decoder(LANES, {space.name: known[space.name] for space in law.conditions})
        ids = torch.zeros(LANES, maps, height, width, dtype=torch.long)
        for r in range(height):
            walk.row(r)
            for c in range(width):
                here = ids[:, :, r, c]
                for m in range(maps):
                    here[:, m] = _as_ids(code_source(law.space, (m, r, c), frequencies(walk.logits(r, c, here)[:, m])))
                walk.put(r, c, here)
                done += 1
                progress(done, total)
        found[law.space.name] = ids.view(LANES, *law.space.shape)
    return found


def _as_ids(said: Ids) -> Tensor:
    return torch.from_numpy(said).long()
