"""Whole numbers as bytes, and back, each under a law of its own: a range coder.

Martin 1979, "Range encoding: an algorithm for removing redundancy from a digitised message"; the coder itself is constriction's
(Bamler 2022, arXiv:2201.01741). Laws are whole numbers, too, so that both sides compute with exactly the same ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from anamorph.core.errors import UserError

__all__ = ["TOTAL", "Frequencies", "Ids", "Reader", "Writer", "frequencies"]

TOTAL = 1 << 24
"""What the frequencies of a law add up to: the most that single precision holds exactly, and the coder's own precision."""
WORD, STATE = 32, 64
"""Bits that the coder writes at a time, and that it has not yet decided on."""

Frequencies = NDArray[np.float32]
"""Whole numbers [n, K] from 1 on, each row of which adds up to TOTAL."""
Ids = NDArray[np.int32]


def frequencies(logits: Tensor) -> Frequencies:
    """Whole numbers [n, K], at least 1 and TOTAL together, in the proportions of logits [n, K].

    What rounding leaves over goes to the largest, the first one of equals.
    Raises: UserError if a logit is not finite.
    """
    shares = logits.double().softmax(1).numpy()
    if not np.isfinite(shares).all():
        raise UserError("the prior's logits are not finite: nothing can be coded under them; go back to an earlier checkpoint")
    whole = np.floor(shares * (TOTAL - shares.shape[1])) + 1
    whole[np.arange(len(whole)), whole.argmax(1)] += TOTAL - whole.sum(1)
    return whole.astype(np.float32)


def _family() -> Any:
    """Laws that are given with the numbers. perfect=False: fixed point by multiplying and rounding down, in a fixed order."""
    import constriction

    return constriction.stream.model.Categorical(perfect=False)


class Writer:
    """Takes numbers one after the other."""

    def __init__(self) -> None:
        import constriction

        self._coder, self._family = constriction.stream.queue.RangeEncoder(), _family()

    def write(self, ids: Ids, laws: Frequencies) -> None:
        """Some numbers [n], in 0 .. K - 1, under laws [n, K]."""
        self._coder.encode(ids, self._family, laws)

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
    """Gives back the numbers that a `Writer` has taken, asked for in the same order under the same laws."""

    def __init__(self, data: bytes) -> None:
        import constriction

        words = np.frombuffer(data.ljust(-(-len(data) // 4) * 4, b"\0"), ">u4").astype(np.uint32)
        self._coder, self._family = constriction.stream.queue.RangeDecoder(words), _family()

    def read(self, laws: Frequencies) -> Ids:
        """Some numbers [n] under laws [n, K].

        Raises: UserError if the bytes cannot be of numbers under these laws.
        """
        try:
            ids: Ids = self._coder.decode(self._family, laws)
        except (AssertionError, ValueError) as error:
            raise UserError("these bytes were not written under these laws") from error
        return ids
