"""Sounds as bytes that are sent or saved: WAV files, which contain a picture of the spectrogram when they are shown live."""

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
"""Name of the chunk of a WAV file that contains the picture. Players skip chunks that they do not know."""
TOP_DB, STEP_DB = -10.0, 10.0
"""The level of the brightest colour, in decibels. It is raised in steps for louder sounds, and lowered by up to three steps for
quieter ones."""
PAUSE_SECONDS = 0.25
"""Silence between two sounds of one file."""
SIGNATURES = {b"fLaC": ".flac", b"OggS": ".ogg"}


def shown_sound(x: Tensor, rate: int) -> bytes:
    """Encode a sound [C, T] in [-1, 1] as a WAV file that contains a picture (WebP) of its spectrogram."""
    level = log_mel(x[None].cpu(), rate)[0]
    top = max(TOP_DB - 3 * STEP_DB, STEP_DB * math.ceil(float(level.max()) / STEP_DB))
    picture = BytesIO()
    Pillow.fromarray(shades(level.numpy(), top)).save(picture, "WEBP", quality=90, method=0)
    return _with_chunk(wav_bytes(x, rate), picture.getvalue())


def _with_chunk(wav: bytes, content: bytes) -> bytes:
    """Add a chunk to a RIFF file; chunks have an even length."""
    chunk = CHUNK + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    return wav[:4] + struct.pack("<I", len(wav) - 8 + len(chunk)) + wav[8:] + chunk


def joined_sounds(x: Tensor, rate: int) -> bytes:
    """Encode sounds [n, C, T] as one WAV file, one after another with pauses."""
    pause = x.new_zeros(x.shape[1], round(PAUSE_SECONDS * rate))
    parts = [part for one in x for part in (pause, one)][1:]
    return wav_bytes(torch.cat(parts, 1), rate)


def spectrograms(x: Tensor, signal: Audio, columns: int | None) -> bytes:
    """Encode the spectrograms of sounds [n, C, T] as one PNG, in rows of `columns`."""
    with tempfile.TemporaryDirectory() as folder:
        return draw(Path(folder) / "sounds.png", signal, rows_of(x, columns)).read_bytes()


def _extension(content: bytes) -> str | None:
    """Return the file extension that fits a sound's first bytes; None if it is no sound."""
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        return ".wav"
    return SIGNATURES.get(content[:4])


def is_sound_file(content: bytes) -> bool:
    """Return whether a file begins as WAV, FLAC and OGG files do."""
    return _extension(content) is not None


def survey_upload(content: bytes) -> dict[str, float]:
    """Return the duration of an uploaded sound in seconds, and its sample rate in hertz.

    Raises:
        UserError: if it is damaged, empty or too long.
    """
    try:
        header = survey_sound(BytesIO(content))
    except BadSound as error:
        raise UserError(f"this file is {error}") from error
    seconds = header.samples / header.sample_rate
    if seconds > UPLOAD_SECONDS:
        raise UserError(f"{seconds:.0f} seconds are over the limit of {UPLOAD_SECONDS}: shorten the sound first")
    return {"seconds": seconds, "rate": header.sample_rate}


def read_upload(content: bytes, name: str, signal: Audio) -> Tensor:
    """Decode the beginning of an uploaded sound to [1, C, T], at the rate and length of a signal.

    Args:
        content: of the file.
        name: of the file, for messages.
        signal: the kind of sound that the model takes.

    Raises:
        UserError: if the file is no sound.
    """
    extension = _extension(content)
    if extension is None:
        raise UserError(
            f"{name or 'this file'} is no sound, and this is a model of sounds ({signal}): upload a WAV, FLAC or OGG file"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"upload{extension}"
        path.write_bytes(content)
        try:
            return read_sounds([path], signal)[0]
        except UserError as error:
            raise UserError(str(error).replace(str(path), name or "this file")) from error
