"""How a source is to be read: images at a size, sounds at a rate and in windows."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from anamorph.core.errors import UserError
from anamorph.core.signal import Audio, Image, Signal

__all__ = ["ReadOptions", "to_samples"]

Length = int | str
"""A length of time: a number of samples, or seconds, as in "0.5s"."""


@dataclass(frozen=True)
class ReadOptions:
    """How examples are read; None leaves them as they are.

    Images: size (height, width), and whether smaller ones may be enlarged to it (upscale).
    Sounds: rate in hertz, the length of a window, and the way from one window to the next (hop; a window by default). Without
    a window, that power of two is taken which is nearest to a second.
    channels: 1, 3 or 4 of images; 1 (by default) or 2 of sounds.
    name_pattern: labels in file names, as in "{digit}_{speaker}_*".
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    upscale: bool = False
    sample_rate: int | None = None
    window: Length | None = None
    hop: Length | None = None
    name_pattern: str = ""

    @staticmethod
    def like(signal: Signal, upscale: bool = True) -> ReadOptions:
        """Return the options that read examples as the given signal."""
        if isinstance(signal, Image):
            return ReadOptions((signal.height, signal.width), signal.channels, upscale)
        return ReadOptions(None, signal.channels, sample_rate=signal.sample_rate, window=signal.samples)

    def image(self, own: Image) -> Image:
        """Return the image to read from images that are their `own`.

        Raises: UserError if that means upscaling, and it was not asked for; or if they are to be read as sounds.
        """
        if self.sample_rate or self.window or self.hop:
            raise UserError("a rate, a window and a hop are for sounds, and these are images: choose a --size")
        if self.channels == 2:
            raise UserError("images are read as 1 (grey), 3 (RGB) or 4 (RGBA) channels, got 2")
        height, width = self.size or (own.height, own.width)
        if not self.upscale and (height > own.height or width > own.width):
            raise UserError(
                f"the images are {own.height}x{own.width}, smaller than the {height}x{width} asked for: "
                f"choose a smaller --size, or enlarge them with --upscale"
            )
        return Image(self.channels or own.channels, height, width)

    def audio(self, own_rate: int) -> Audio:
        """Return the sound to read from sounds of a rate.

        Raises: UserError if they are to be read as images, or in other than one or two channels.
        """
        if self.size or self.upscale:
            raise UserError("a size is for images, and these are sounds: choose a --window, and a --rate")
        if self.channels not in (None, 1, 2):
            raise UserError(f"sounds are read in 1 or 2 channels, got {self.channels}")
        rate = own_rate if self.sample_rate is None else self.sample_rate
        if rate < 1:
            raise UserError(f"a rate is a number of samples per second, got {rate}")
        window = 2 ** round(math.log2(rate)) if self.window is None else to_samples(self.window, rate, "--window")
        return Audio(self.channels or 1, window, rate)

    def hop_length(self, audio: Audio) -> int:
        """Samples from one window to the next."""
        return audio.samples if self.hop is None else to_samples(self.hop, audio.sample_rate, "--hop")


def to_samples(length: Length, sample_rate: int, option: str) -> int:
    """Convert a length of time to samples at a rate; `option` names it in messages.

    Raises: UserError if it is no length, or shorter than one sample.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(s?)", str(length).strip())
    samples = 0
    if match and (match[2] or match[1].isdigit()):
        samples = round(float(match[1]) * sample_rate) if match[2] else int(match[1])
    if samples < 1:
        raise UserError(f"{option} is a number of samples, as in 8192, or seconds, as in 0.5s; got {length!r}")
    return samples
