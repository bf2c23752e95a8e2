"""Single image or sound files as a batch of a model's own signal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.signal import Audio, Image
from anamorph.data.bounded_read import BadFile
from anamorph.data.decode_image import BadImage, decode, survey
from anamorph.data.decode_sound import decode_sound, is_sound_name
from anamorph.data.images import to_signal
from anamorph.data.sound_files import cut_windows
from anamorph.data.sounds import from_pcm

__all__ = ["read_image", "read_images", "read_sound", "read_sounds"]


def read_images(paths: Sequence[Path | str], image: Image) -> tuple[Tensor, list[str]]:
    """Return images [n, C, H, W] in [-1, 1], fitted to a signal; and what was done to each to fit it.

    Raises: UserError naming the first file that is missing or no image.
    """
    found = [(path, *read_image(path, image)) for path in paths]
    return torch.cat([one for _, one, _, _ in found]), [f"{path} was {done}" for path, _, _, done in found if done]


def read_image(path: Path | str, image: Image) -> tuple[Tensor, tuple[int, int], str]:
    """Return one image [1, C, H, W] in [-1, 1], fitted to a signal; the height and width that it had; and what was done to
    fit it, empty if nothing was.

    Raises: UserError if the file is missing or no image.
    """
    try:
        with Path(path).open("rb") as file:
            was = survey(file)
            file.seek(0)
            pixels, done = decode(file, image)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except BadImage as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return to_signal(pixels[None]), (was.height, was.width), ", ".join(sorted(done))


def read_sounds(paths: Sequence[Path | str], audio: Audio) -> tuple[Tensor, list[str]]:
    """Sounds [n, C, T] in [-1, 1], each the beginning of its file, with silence behind it where that is shorter; and what was
    done to each to fit it.

    Raises: UserError naming the first file that is missing or no sound.
    """
    found = [(path, *read_sound(path, audio)) for path in paths]
    return torch.cat([one for _, one, _, _ in found]), [f"{path} was {done}" for path, _, _, done in found if done]


def read_sound(path: Path | str, audio: Audio) -> tuple[Tensor, tuple[int], str]:
    """Return one sound [1, C, T] in [-1, 1], fitted to a signal; how many samples it had, at the signal's rate; and what was
    done to fit it, empty if nothing was.

    Raises: UserError if the file is missing or no sound.
    """
    path = Path(path)
    if path.is_file() and not is_sound_name(path.name):
        raise UserError(f"cannot read {path}: wanted a sound file (.wav, .flac, .ogg, .mp3)")
    try:
        with path.open("rb") as file:
            samples, done = decode_sound(file, audio.sample_rate, audio.channels)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except BadFile as error:
        raise UserError(f"cannot read {path}: {error}") from error
    windows, padded = cut_windows(samples, audio.samples, None)
    if padded:
        done.add("padded with silence")
    if samples.shape[1] > audio.samples:
        done.add(f"cut to its first {audio.seconds:.3g} s")
    return from_pcm(np.stack(list(windows))), (samples.shape[1],), ", ".join(sorted(done))
