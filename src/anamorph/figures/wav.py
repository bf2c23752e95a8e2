"""Sounds as WAV files of 16-bit samples, which every program plays."""

from __future__ import annotations

import wave
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.files import atomic_write

__all__ = ["read_wav", "wav_bytes", "write_wav"]

SCALE = 32768


def write_wav(path: Path, x: Tensor, sample_rate: int) -> None:
    """Write one sound [C, T] in [-1, 1], clipped, as 16-bit PCM; whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(wav_bytes(x, sample_rate))


def wav_bytes(x: Tensor, sample_rate: int) -> bytes:
    """Return the content of the file that `write_wav` writes."""
    pcm = (x.detach().float().cpu() * SCALE).round().clamp(-SCALE, SCALE - 1).to(torch.int16).numpy()
    out = BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(pcm.shape[0])
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.ascontiguousarray(pcm.T, "<i2").tobytes())
    return out.getvalue()


def read_wav(path: Path) -> Tensor:
    """Read a sound [C, T] in [-1, 1] that `write_wav` wrote.

    Raises: UserError if the file is missing, damaged or of another form.
    """
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, frames = file.getnchannels(), file.getsampwidth(), file.getnframes()
            data = file.readframes(frames)
    except (OSError, EOFError, wave.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if width != 2 or len(data) != 2 * channels * frames:
        raise UserError(f"{path} is damaged, or no 16-bit WAV file: write it anew")
    return torch.from_numpy(np.frombuffer(data, "<i2").reshape(-1, channels).T.astype(np.float32) / SCALE)
