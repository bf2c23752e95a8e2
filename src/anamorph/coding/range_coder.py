"""A range coder: whole numbers as bytes and back, each under its own distribution.

Martin 1979, "Range encoding: an algorithm for removing redundancy from a digitised message"; the coder itself is constriction's
(Bamler 2022, arXiv:2201.01741). Frequencies are whole numbers, so that both sides use exactly the same ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from anamorph.core.errors import UserError

__all__ = ["TOTAL", "Frequencies", "Ids", "Reader", "Writer", "frequencies"]

TOTAL = 1 << 24
"""Sum of a distribution's frequencies: the largest whole number exact in float32, and the coder's precision."""
WORD, STATE = 32, 64
"""Bits per word written, and bits of the coder's state."""

Frequencies = NDArray[np.float32]
"""Whole numbers [n, K] from 1 on, each row of which adds up to TOTAL."""
Ids = NDArray[np.int32]


def frequencies(logits: Tensor) -> Frequencies:
    """Convert logits [n, K] to frequencies [n, K] of at least 1 that sum to TOTAL.

    The remainder of rounding goes to the largest frequency, the first one of equals.

    Raises:
        UserError: if a logit is not finite.
    """
    shares = logits.double().softmax(1).numpy()
    if not np.isfinite(shares).all():
        raise UserError("the prior's logits are not finite: nothing can be coded under them; go back to an earlier checkpoint")
    whole = np.floor(shares * (TOTAL - shares.shape[1])) + 1
    whole[np.arange(len(whole)), whole.argmax(1)] += TOTAL - whole.sum(1)
    return whole.astype(np.float32)


def _family() -> Any:
    """Return the coder's distributions, given with the numbers. perfect=False: fixed point, rounded down in a fixed order."""
    import constriction

    return constriction.stream.model.Categorical(perfect=False)


class Writer:
    """Encodes numbers."""

    def __init__(self) -> None:
        import constriction

        self._coder, self._family = constriction.stream.queue.RangeEncoder(), _family()

    def write(self, ids: Ids, distributions: Frequencies) -> None:
        """Encode numbers [n], in 0 .. K - 1, under distributions [n, K]."""
        self._coder.encode(ids, self._family, distributions)

    def finish(self) -> bytes:
        """Bytes that a `Reader` gets the numbers back from; it takes what is missing behind them for zeros.

        Any number in the coder's last interval will do, and a short one is taken: a dozen bits less than whole words.
        """
        words, (low, width) = self._coder.pos()
        size = (words * WORD + STATE) // 8
        ended = int.from_bytes(self._coder.get_compressed().astype(">u4").tobytes().ljust(size, b"\0"), "big")
        first = ended - (ended - low) % (1 << STATE)  # the interval begins here, whatever was carried over
        for length in range(max(0, size - STATE // 8 - WORD // 8), size + 1):
            unit = 8 * (size - length)
            short = -(-first >> unit)
            if short << unit < first + width:
                return short.to_bytes(length, "big")
        raise AssertionError("the interval holds its own beginning")


class Reader:
    """Decodes the numbers of a `Writer`, in the same order and under the same distributions."""

    def __init__(self, data: bytes) -> None:
        import constriction

        words = np.frombuffer(data.ljust(-(-len(data) // 4) * 4, b"\0"), ">u4").astype(np.uint32)
        self._coder, self._family = constriction.stream.queue.RangeDecoder(words), _family()

    def read(self, distributions: Frequencies) -> Ids:
        """Decode numbers [n] under distributions [n, K].

        Raises: UserError if the bytes cannot be of numbers under these distributions.
        """
        try:
            ids: Ids = self._coder.decode(self._family, distributions)
        except (AssertionError, ValueError) as error:
            raise UserError("these bytes were not written under these distributions") from error
        return ids
