"""Sounds to hear and to look at: WAV files that hold the same numbers, mel bands, levels in decibels, pictures of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from anamorph.core.errors import UserError
from anamorph.core.signal import Audio, Image
from anamorph.core.spectrum import log_mel, mel, mel_filters
from anamorph.figures.grid import Row
from anamorph.figures.show import save_strip, saved_strips, show, show_all
from anamorph.figures.spectrogram import save_spectrograms
from anamorph.figures.wav import read_wav, write_wav
from commands import size

AUDIO = Audio(1, 1024, 8000)


def sine(hertz: float, gain: float = 1.0, samples: int = 8000, rate: int = 8000) -> torch.Tensor:
    return gain * torch.sin(2 * math.pi * hertz * torch.arange(samples) / rate)[None, None]


def test_wav_files_hold_the_numbers_rounded_to_16_bits(tmp_path: Path) -> None:
    import soundfile

    x = torch.cat([sine(440, 0.5), sine(100, 1.5)], 1)[0]  # stereo, the second beyond full scale
    write_wav(tmp_path / "x.wav", x, 8000)
    found, rate = soundfile.read(tmp_path / "x.wav", dtype="float32")
    wanted = (x.clamp(-1, 1 - 2**-15) * 32768).round() / 32768
    assert rate == 8000
    assert soundfile.info(tmp_path / "x.wav").subtype == "PCM_16"
    assert torch.equal(torch.from_numpy(found.T), wanted)
    assert torch.equal(read_wav(tmp_path / "x.wav"), wanted)
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav"]


def test_a_damaged_wav_is_named(tmp_path: Path) -> None:
    write_wav(tmp_path / "x.wav", sine(440)[0], 8000)
    data = (tmp_path / "x.wav").read_bytes()
    for damaged in (b"", data[:30], data[:-100]):
        (tmp_path / "x.wav").write_bytes(damaged)
        with pytest.raises(UserError, match=r"x\.wav"):
            read_wav(tmp_path / "x.wav")


def test_the_mel_scale_is_the_published_one() -> None:
    assert mel(1000) == pytest.approx(1000, abs=0.1)
    assert mel(0) == 0
    assert mel(4000) == pytest.approx(2595 * math.log10(1 + 4000 / 700))


def test_filters_are_triangles_that_add_up_to_one_between_the_outer_centres() -> None:
    filters = mel_filters(20, 513, 8000)
    assert filters.shape == (20, 513)
    centres = filters.argmax(1)
    assert bool((centres.diff() > 0).all())
    assert float(filters.max()) <= 1
    between = filters.sum(0)[centres[0] : centres[-1]]
    torch.testing.assert_close(between, torch.ones_like(between))
    mels = [mel(float(c) * 4000 / 512) for c in centres]
    assert np.diff(mels) == pytest.approx([mel(4000) / 21] * 19, abs=25)  # bins are up to 11 mel wide


@pytest.mark.parametrize("hertz", [150, 440, 1000, 3000])
def test_a_sine_lies_in_its_band_at_its_level(hertz: float) -> None:
    level = log_mel(sine(hertz), 8000)[0, :, 50]
    step = mel(4000) / 81
    assert (int(level.argmax()) + 1) * step == pytest.approx(mel(hertz), abs=step)
    assert -1.5 < float(level.max()) < 7  # a wide band holds several of the interpolated bins of one sine
    quieter = log_mel(sine(hertz, 0.1), 8000)[0, :, 50]
    assert float(level.max() - quieter.max()) == pytest.approx(20, abs=0.01)


def test_silence_is_at_the_floor_and_no_band_is_empty() -> None:
    assert log_mel(torch.zeros(1, 1, 4000), 8000).unique().tolist() == [-100]
    noise = torch.rand(1, 1, 8000, generator=torch.Generator().manual_seed(0)) - 0.5
    assert float(log_mel(noise, 8000).mean(2).min()) > -60


def test_pictures_and_sounds_are_written_together(tmp_path: Path) -> None:
    x = torch.cat([sine(200 * (i + 1), 0.5, 1024) for i in range(5)])
    written = show(tmp_path / "a.png", AUDIO, [Row("sound", x[:3]), Row("again, louder", [*x[3:], None])], "a title")
    assert str(written) == f"{tmp_path / 'a.png'}, {tmp_path / 'a-sounds'}"
    names = {path.name for path in (tmp_path / "a-sounds").iterdir()}
    sounds = {f"sound-{i:02d}.wav" for i in range(3)} | {f"again-louder-{i:02d}.wav" for i in range(2)}
    assert names == sounds | {"sounds.json"}
    torch.testing.assert_close(read_wav(tmp_path / "a-sounds" / "again-louder-01.wav"), x[4], atol=1e-4, rtol=0)
    width, height = size(tmp_path / "a.png")
    assert width > height
    one = show_all(tmp_path / "b.wav", AUDIO, x[:1])
    assert (one.picture, one.sounds) == (tmp_path / "b.png", tmp_path / "b.wav")
    size(tmp_path / "b.png")
    torch.testing.assert_close(read_wav(tmp_path / "b.wav"), x[0], atol=1e-4, rtol=0)


def test_fewer_sounds_leave_none_of_the_earlier_ones_and_no_others_are_touched(tmp_path: Path) -> None:
    x = torch.zeros(4, 1, 1024) + sine(300, 0.5, 1024)
    show_all(tmp_path / "a.png", AUDIO, x)
    (tmp_path / "a-sounds" / "mine.wav").write_bytes(b"mine")
    (tmp_path / "keep.wav").write_bytes(b"keep")
    listed = json.loads((tmp_path / "a-sounds" / "sounds.json").read_text())
    (tmp_path / "a-sounds" / "sounds.json").write_text(json.dumps([*listed, "../keep.wav"]))
    show_all(tmp_path / "a.png", AUDIO, x[:2])
    assert {p.name for p in (tmp_path / "a-sounds").iterdir()} == {"00.wav", "01.wav", "mine.wav", "sounds.json"}
    assert (tmp_path / "keep.wav").exists()


def test_heads_name_columns_and_files(tmp_path: Path) -> None:
    x = sine(300, 0.5, 1024).expand(3, -1, -1)
    show(tmp_path / "a.svg", AUDIO, [Row("seed:7", x), Row("../x", x[:2])], headings=("sound", "start", "found"))
    text = (tmp_path / "a.svg").read_text()
    assert text.startswith("<?xml")
    names = sorted(p.name for p in (tmp_path / "a-sounds").glob("*.wav"))
    assert names == ["seed-7-00-sound.wav", "seed-7-01-start.wav", "seed-7-02-found.wav", "x-00-sound.wav", "x-01-start.wav"]


def test_nothing_and_too_much_cannot_be_shown(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no sound to show"):
        save_spectrograms(tmp_path / "a.png", [Row("", [None])], 8000)
    with pytest.raises(UserError, match="257 spectrograms, .*256: show fewer sounds"):
        save_spectrograms(tmp_path / "a.png", [Row("", torch.zeros(257, 1, 64))], 8000)
    assert not list(tmp_path.iterdir())


def test_silence_and_very_short_sounds_are_drawn(tmp_path: Path) -> None:
    for x in (torch.zeros(2, 1, 1024), torch.ones(1, 2, 3), torch.zeros(1, 1, 1)):
        save_spectrograms(tmp_path / "a.png", [Row("x", x)], 8000)
        assert min(size(tmp_path / "a.png")) > 50


def test_the_same_sounds_make_the_same_picture(tmp_path: Path) -> None:
    x = sine(300, 0.5, 1024).expand(2, -1, -1)
    for name in "ab":
        save_spectrograms(tmp_path / f"{name}.png", [Row("x", x)], 8000, "title")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_strips_of_a_training_come_back(tmp_path: Path) -> None:
    sounds, images = torch.rand(3, 1, 1024) - 0.5, torch.rand(2, 3, 4, 6) * 2 - 1
    for signal, cells, folder in ((AUDIO, sounds, "s"), (Image(3, 4, 6), images, "i")):
        for seen in (64, 0):
            save_strip(tmp_path / folder, seen, signal, list(cells))
        found = list(saved_strips(tmp_path / folder, signal))
        assert [seen for seen, _ in found] == [0, 64]
        torch.testing.assert_close(torch.stack(found[1][1]), cells, atol=1 / 255, rtol=0)
