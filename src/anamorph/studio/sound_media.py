"""Sounds as the bytes that are sent or saved: WAV files, which carry the picture of their spectrogram when they are shown."""

from __future__ import annotations

import math
import struct
import tempfile
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image as Pillow
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.signal import Audio
from anamorph.core.spectrum import log_mel
from anamorph.data.decode_sound import BadSound, survey_sound
from anamorph.data.single_files import read_sounds
from anamorph.figures.grid import rows_of
from anamorph.figures.show import draw
from anamorph.figures.spectrogram import shades
from anamorph.figures.wav import wav_bytes
from anamorph.studio.limits import UPLOAD_SECONDS

__all__ = ["is_sound_file", "joined_sounds", "read_upload", "shown_sound", "spectrograms", "survey_upload"]

CHUNK = b"spec"
"""The part of a WAV file that holds the picture; what plays the file passes over it, as over all that it does not know."""
TOP_DB, STEP_DB = -10.0, 10.0
"""Brightest level of a picture, unless the sound is louder or so much quieter."""
PAUSE_SECONDS = 0.25
BEGINNINGS = {b"fLaC": ".flac", b"OggS": ".ogg"}


def shown_sound(x: Tensor, rate: int) -> bytes:
    """A WAV file of a sound [C, T] in [-1, 1] that carries a picture of its spectrogram (WebP)."""
    level = log_mel(x[None].cpu(), rate)[0]
    top = max(TOP_DB - 3 * STEP_DB, STEP_DB * math.ceil(float(level.max()) / STEP_DB))
    picture = BytesIO()
    Pillow.fromarray(shades(level.numpy(), top)).save(picture, "WEBP", quality=90, method=0)
    return _with_chunk(wav_bytes(x, rate), picture.getvalue())


def _with_chunk(wav: bytes, content: bytes) -> bytes:
    """A RIFF file with one chunk more; chunks have an even length."""
    more = CHUNK + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    return wav[:4] + struct.pack("<I", len(wav) - 8 + len(more)) + wav[8:] + more


def joined_sounds(x: Tensor, rate: int) -> bytes:
    """Sounds [n, C, T], one after another with pauses, as one WAV file."""
    pause = x.new_zeros(x.shape[1], round(PAUSE_SECONDS * rate))
    parts = [part for one in x for part in (pause, one)][1:]
    return wav_bytes(torch.cat(parts, 1), rate)


def spectrograms(x: Tensor, signal: Audio, columns: int | None) -> bytes:
    """The spectrograms of sounds [n, C, T] as one PNG."""
    with tempfile.TemporaryDirectory() as folder:
        return draw(Path(folder) / "sounds.png", signal, rows_of(x, columns)).read_bytes()


def _ending(content: bytes) -> str | None:
    """Of the name that a sound's file would have."""
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        return ".wav"
    return BEGINNINGS.get(content[:4])


def is_sound_file(content: bytes) -> bool:
    """Whether it says of itself that it is a WAV, FLAC or OGG file."""
    return _ending(content) is not None


def survey_upload(content: bytes) -> dict[str, float]:
    """How long an uploaded sound is, and its rate.

    Raises: UserError if it is damaged, empty or too long.
    """
    try:
        header = survey_sound(BytesIO(content))
    except BadSound as error:
        raise UserError(f"this file is {error}") from error
    seconds = header.samples / header.sample_rate
    if seconds > UPLOAD_SECONDS:
        raise UserError(f"{seconds:.0f} seconds are over the limit of {UPLOAD_SECONDS}: cut it first")
    return {"seconds": seconds, "rate": header.sample_rate}


def read_upload(content: bytes, name: str, signal: Audio) -> Tensor:
    """The beginning of an uploaded sound [1, C, T], fitted to a signal.

    Raises: UserError if it is no sound.
    """
    ending = _ending(content)
    if ending is None:
        raise UserError(f"{name or 'this file'} is no sound: this model is one of sounds of {signal}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"upload{ending}"
        path.write_bytes(content)
        try:
            return read_sounds([path], signal)[0]
        except UserError as error:
            raise UserError(str(error).replace(str(path), name or "this file")) from error
