"""One sound file to 16-bit samples at the wanted rate and channels, whatever it is stored as; and what had to be done to it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anamorph.core.errors import UserError
from anamorph.data.bounded_read import BadFile

if TYPE_CHECKING:
    from soundfile import SoundFile

__all__ = [
    "BadSound",
    "PcmSamples",
    "SoundHeader",
    "decode_sound",
    "is_sound_name",
    "require_soundfile",
    "survey_sound",
    "to_pcm",
]

PcmSamples = NDArray[np.int16]
ENDINGS = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au"})
LIMIT_SAMPLES = 1 << 28
"""Numbers in one file, all channels together: an hour and a half at 48 kHz in one channel, 1 GiB while it is read."""
FULL = 1 - 2**-15
RUN = 3
"""So many samples at full scale in a row are taken for clipping; a single one is a peak."""


class BadSound(BadFile):
    """A file that cannot be used as a sound, and why."""


@dataclass(frozen=True)
class SoundHeader:
    """What a file says of itself: samples per second, channels, and samples in each channel."""

    sample_rate: int
    channels: int
    samples: int


def is_sound_name(name: str) -> bool:
    """Return whether a file of that name is taken for a sound."""
    return PurePath(name).suffix.lower() in ENDINGS


def require_soundfile() -> Any:
    """Return the library that reads sound files. Raises: UserError if it is not installed."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError where its libsndfile is missing
        raise UserError(f"sounds are read by soundfile ({error}): install it with `pip install anamorph[sound]`") from error
    return soundfile


@contextmanager
def _opened(file: IO[bytes]) -> Iterator[SoundFile]:
    """Return a sound whose samples are not yet decoded. Raises: BadSound for whatever goes wrong with it."""
    soundfile = require_soundfile()
    try:
        with soundfile.SoundFile(file) as sound:
            if sound.frames * sound.channels > LIMIT_SAMPLES:
                raise BadSound(f"it claims {sound.frames:,} samples, over the limit of {LIMIT_SAMPLES:,}: split it first")
            yield sound
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError, MemoryError) as error:
        why = str(getattr(error, "error_string", "") or error).rstrip(".")
        raise BadSound(f"not readable as a sound, damaged or cut short ({why})") from error


def survey_sound(file: IO[bytes]) -> SoundHeader:
    """Read a sound's header. Raises: BadSound if the file is no sound, an empty or too large one."""
    with _opened(file) as sound:
        if not sound.frames:
            raise BadSound("it holds no samples")
        return SoundHeader(sound.samplerate, sound.channels, sound.frames)


def decode_sound(file: IO[bytes], sample_rate: int, channels: int) -> tuple[PcmSamples, set[str]]:
    """16-bit samples [C, N], and what was done to get there.

    Raises: BadSound if the file is no sound, is damaged, too large, empty, silent or not finite.
    """
    with _opened(file) as sound:
        own, log, claimed = sound.samplerate, sound.extra_info, sound.frames
        x = sound.read(dtype="float32", always_2d=True)
    if not len(x):
        raise BadSound("it holds no samples")
    if not np.isfinite(x).all():
        raise BadSound("it holds NaN or infinite samples")
    if not np.ptp(x):
        raise BadSound("it is silent from beginning to end")
    done = {"shorter than their headers say, and used as far as they go"} if _cut(log) or len(x) < claimed else set()
    peak = float(np.abs(x).max())
    if peak > 1:
        x /= peak
        done.add("louder than full scale, and scaled down to it")
    elif _clipped(x):
        done.add(f"clipped ({RUN} samples or more in a row at full scale), and left as they are")
    x = _mixed(x, channels, done)
    if own != sample_rate:
        done.add(f"resampled from {own:,} to {sample_rate:,} Hz")
        x = _resampled(x, own, sample_rate)
    pcm = to_pcm(x.T)
    if not np.ptp(pcm):
        raise BadSound("it is silent at 16 bits")
    return pcm, done


def to_pcm(x: NDArray[Any]) -> PcmSamples:
    """Samples in [-1, 1] as 16-bit whole numbers, clipped."""
    return np.clip(np.round(x * 32768.0), -32768, 32767).astype(np.int16)


def _cut(log: str) -> bool:
    """Return whether libsndfile has found a chunk of samples to be shorter than it says."""
    return any("(should be" in line for line in log.splitlines() if line.lstrip().startswith(("data", "SSND")))


def _clipped(x: NDArray[Any]) -> bool:
    full, starts = np.abs(x) >= FULL, len(x) - RUN + 1
    return starts > 0 and bool(np.logical_and.reduce([full[i : i + starts] for i in range(RUN)]).any())


def _mixed(x: NDArray[Any], channels: int, done: set[str]) -> NDArray[Any]:
    """Samples [N, channels] of samples [N, C]."""
    own = x.shape[1]
    if own == channels:
        return x
    mono = x.mean(1, keepdims=True, dtype=np.float32)
    if channels == 1:
        done.add(f"mixed down from {own} channels to one")
        return mono
    done.add("of one channel, repeated" if own == 1 else f"mixed down from {own} channels, repeated")
    return np.repeat(mono, channels, 1)


def _resampled(x: NDArray[Any], own: int, rate: int) -> NDArray[Any]:
    """Samples [N, C] at another rate, by a polyphase filter (linear phase, Kaiser window)."""
    from scipy.signal import resample_poly

    common = math.gcd(own, rate)
    return np.asarray(resample_poly(x, rate // common, own // common, axis=0), np.float32)
