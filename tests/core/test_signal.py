"""Signals know their shape, refuse what is none, and come back from a config as what they were."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from anamorph.core.config import from_plain, to_plain
from anamorph.core.errors import UserError
from anamorph.core.signal import Audio, Image, Signal, require_image


@dataclass(frozen=True)
class Holder:
    signal: Signal


@pytest.mark.parametrize("signal", [Image(3, 4, 5), Audio(2, 100, 8000)])
def test_a_signal_of_either_kind_comes_back_from_plain_values(signal: Signal) -> None:
    plain = to_plain(Holder(signal))
    assert from_plain(Holder, plain, "here") == Holder(signal)
    assert signal.noun not in plain["signal"].values()
    with pytest.raises(UserError, match="unknown setting 'widht'"):
        from_plain(Holder, {"signal": {**plain["signal"], "widht": 3}}, "here")


def test_a_sound_has_a_shape_a_length_and_no_levels() -> None:
    audio = Audio(2, 4000, 8000)
    assert (audio.shape, audio.num_values, audio.seconds, audio.noun) == ((2, 4000), 8000, 0.5, "sound")
    assert str(audio) == "4,000 samples at 8,000 Hz (0.5 s) with 2 channels"
    assert audio.at(0) == audio
    with pytest.raises(UserError, match="only images can"):
        audio.at(1)


@pytest.mark.parametrize("values", [(0, 1, 1), (3, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_what_is_no_sound_is_refused(values: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match="a sound has 1 or 2 channels, at least 1 sample and a rate in hertz"):
        Audio(*values)


def test_what_is_for_images_alone_says_so() -> None:
    assert require_image(Image(1, 2, 3), "a film") == Image(1, 2, 3)
    with pytest.raises(UserError, match="a film is for images, got sounds of 10 samples"):
        require_image(Audio(1, 10, 10), "a film")
