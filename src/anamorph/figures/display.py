"""Batches as notebooks show them: images in rows, sounds as spectrograms."""

from __future__ import annotations

import tempfile
from base64 import b64encode
from pathlib import Path

from torch import Tensor

from anamorph.core.signal import Audio, Image, Signal
from anamorph.core.signal_batch import set_renderers
from anamorph.figures.grid import rows_of
from anamorph.figures.show import draw
from anamorph.figures.wav import wav_bytes

__all__ = ["signals_png", "sounds_html"]

MOST_IMAGES, MOST_SOUNDS, COLUMNS = 256, 24, 16
"""Shown of a larger batch; columns of a larger batch of images, so that it fits a page."""


def signals_png(x: Tensor, signal: Signal) -> bytes:
    """Draw signals [n, *signal.shape] in [-1, 1] as a PNG; of many, the first ones."""
    some = x[: MOST_IMAGES if isinstance(signal, Image) else MOST_SOUNDS]
    columns = None if not isinstance(signal, Image) or len(some) > COLUMNS**2 else min(len(some), _columns(len(some)))
    with tempfile.TemporaryDirectory() as folder:
        return draw(Path(folder) / "batch.png", signal, rows_of(some, columns)).read_bytes()


def sounds_html(x: Tensor, signal: Signal) -> str | None:
    """Return sounds [n, C, T] in [-1, 1] as spectrograms with a player each; None for images, which need no player."""
    if not isinstance(signal, Audio):
        return None
    picture = b64encode(signals_png(x, signal)).decode()
    sounds = [b64encode(wav_bytes(one, signal.sample_rate)).decode() for one in x[:MOST_SOUNDS]]
    players = "".join(f'<audio controls src="data:audio/wav;base64,{sound}"></audio>' for sound in sounds)
    return f'<img src="data:image/png;base64,{picture}"><div>{players}</div>'


def _columns(n: int) -> int:
    """One row where it fits, else rows of 8 or 16."""
    return n if n <= 10 else 8 if n <= 64 else COLUMNS


set_renderers(signals_png, sounds_html)
