"""From files of sound to sources: formats, rates, channels, windows, labels, splits; spoken digits; bad files."""

from __future__ import annotations

import builtins
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from anamorph.core.errors import UserError
from anamorph.core.signal import Audio
from anamorph.data import shards
from anamorph.data.dataset import Dataset
from anamorph.data.open import ReadOptions, open_source
from anamorph.data.single_files import read_sounds
from anamorph.data.sound_files import cut_windows
from sounds import RATE, SPEAKERS, recordings, tone, write


def everything(source: Dataset) -> torch.Tensor:
    return source.in_order().take(0, source.size).signals


def opened(path: Path, window: int | str | None = 1000, **how: Any) -> Dataset:
    return open_source(f"{path}:all", ReadOptions(window=window, **how))


def test_a_wav_of_16_bits_is_read_to_the_last_bit(tmp_path: Path) -> None:
    x = tone(0.25)
    write(tmp_path / "a.wav", x)
    source = opened(tmp_path)
    assert (source.signal, source.size, source.notes) == (Audio(1, 1000, RATE), 1, ())
    wanted = torch.from_numpy(np.floor(x * 32768 + 0.5) / 32768)
    torch.testing.assert_close(everything(source)[0, 0], wanted, atol=1.01 / 32768, rtol=0)
    assert bool((everything(source) * 32768 == (everything(source) * 32768).round()).all())


@pytest.mark.parametrize("ending", [".flac", ".ogg", ".aiff", ".mp3", ".opus"])
def test_every_format_holds_the_same_sound(tmp_path: Path, ending: str) -> None:
    rate = 16000  # which all of them know
    x = tone(0.5, rate=rate)
    write(tmp_path / f"a{ending}", x, rate)
    found = everything(opened(tmp_path, 8000))[0, 0]
    best = np.correlate(found.numpy(), x[2000:6000], "valid").max() / np.square(x[2000:6000]).sum()
    assert best > 0.97


def test_subtypes_are_read_alike(tmp_path: Path) -> None:
    x = tone(0.25)
    for kind in ("PCM_16", "PCM_24", "FLOAT", "DOUBLE"):
        write(tmp_path / kind / "a.wav", x, subtype=kind)
    found = everything(opened(tmp_path))
    assert float((found - found[:1]).abs().max()) <= 1.01 / 32768


def test_stereo_is_mixed_down_and_told_or_kept(tmp_path: Path) -> None:
    left, right = tone(0.25), np.zeros(1000, np.float32)
    write(tmp_path / "a.wav", np.stack([left, right], 1))
    write(tmp_path / "b.wav", left)
    mono, stereo = opened(tmp_path), opened(tmp_path, channels=2)
    assert mono.notes == ("1 sound was mixed down from 2 channels to one",)
    assert stereo.notes == ("1 sound was of one channel, repeated",)
    assert stereo.signal == Audio(2, 1000, RATE)
    torch.testing.assert_close(everything(mono)[0] * 2, everything(mono)[1], atol=1e-4, rtol=0)
    assert float(everything(stereo)[0, 1].abs().max()) == 0
    with pytest.raises(UserError, match="sounds are read in 1 or 2 channels, got 3"):
        opened(tmp_path, channels=3)


def test_rates_are_brought_to_one_and_told(tmp_path: Path) -> None:
    for rate in (4000, 8000, 11025):
        write(tmp_path / f"{rate}.wav", tone(0.5, 300, rate), rate)
    source = opened(tmp_path, "0.5s")
    assert source.signal == Audio(1, 2000, 4000)
    assert "of 3 rates, from 4,000 to 11,025 Hz: the lowest is used; choose another with --rate" in source.notes
    assert {"1 sound was resampled from 8,000 to 4,000 Hz", "1 sound was resampled from 11,025 to 4,000 Hz"} < set(source.notes)
    found = everything(source)[:, 0, 200:-200]  # the ends are smoothed
    assert float((found - found[1]).abs().max()) < 0.01
    assert opened(tmp_path, "0.5s", sample_rate=8000).signal == Audio(1, 4000, 8000)


def test_what_is_above_half_the_rate_is_left_out_not_folded(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", tone(0.5, 3000, 8000), 8000)
    assert float(everything(opened(tmp_path, 1000, sample_rate=2000)).square().mean().sqrt()) < 0.01


def test_windows_follow_each_other_and_the_last_ends_with_the_file(tmp_path: Path) -> None:
    x = np.arange(2700, dtype=np.float32) / 32768
    write(tmp_path / "a.wav", x)
    firsts = [(everything(opened(tmp_path, 1000, hop=hop))[:, 0, 0] * 32768).tolist() for hop in (None, 500, "0.4s")]
    assert firsts == [[0, 1000, 1700], [0, 500, 1000, 1500, 1700], [0, 1600, 1700]]
    assert "cut into 3 windows of 1,000 samples, from 1 files" in opened(tmp_path, 1000).notes
    assert (everything(opened(tmp_path, 1350))[:, 0, 0] * 32768).tolist() == [0, 1350]


def test_a_file_shorter_than_a_window_is_padded_with_silence_and_told(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", tone(0.2))
    source = opened(tmp_path, 1000)
    assert source.notes == ("1 sound was shorter than a window, and padded with silence",)
    found = everything(source)[0, 0]
    assert float(found[800:].abs().max()) == 0 < float(found[700:800].abs().max())


def test_cutting_is_a_function_of_lengths() -> None:
    x = np.arange(10, dtype=np.int16)[None]
    windows, padded = cut_windows(x, 4, 3)
    assert ([w[0].tolist() for w in windows], padded) == ([[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]], False)
    assert [w.tolist() for w in cut_windows(x, 4, None)[0]] == [[[0, 1, 2, 3]]]
    assert [w.tolist() for w in cut_windows(x, 12, 3)[0]] == [[[*range(10), 0, 0]]]
    assert [w[0, 0] for w in cut_windows(x, 2, 4)[0]] == [0, 4, 8]


def test_by_default_a_window_is_about_a_second(tmp_path: Path) -> None:
    for rate, samples in ((8000, 8192), (16000, 16384), (44100, 32768)):
        write(tmp_path / str(rate) / "a.wav", tone(0.1, rate=rate), rate)
        assert opened(tmp_path / str(rate), None).signal == Audio(1, samples, rate)


@pytest.mark.parametrize("window", ["soon", "0", 0, "-5", "1.5", "0s", "1e3"])
def test_lengths_that_are_none_are_named(tmp_path: Path, window: int | str) -> None:
    write(tmp_path / "a.wav", tone())
    with pytest.raises(UserError, match="--window is a number of samples, as in 8192, or seconds, as in 0.5s; got"):
        opened(tmp_path, window)


def test_labels_come_from_sub_folders_a_csv_or_the_names_of_files(tmp_path: Path) -> None:
    root = recordings(tmp_path / "r")
    assert opened(root).labels == ()
    source = opened(root, 2000, name_pattern="{digit}_{speaker}_*").in_order()
    assert [(label.name, label.classes) for label in source.labels] == [("digit", ("0", "1", "2", "3")), ("speaker", SPEAKERS)]
    labels = source.take(0, 24).labels
    assert labels["digit"].tolist() == [i // 6 for i in range(24)]  # in the order of names
    assert labels["speaker"].tolist()[:6] == [0, 0, 1, 1, 2, 2]
    for i, path in enumerate(sorted(root.iterdir())):
        path.rename(write(tmp_path / "s" / "xy"[i % 2] / f"{i}.wav", tone()))
    assert opened(tmp_path / "s").labels[0].classes == ("x", "y")
    assert opened(tmp_path / "s", name_pattern="{kind}/*").labels[0].classes == ("x", "y")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("{digit}-{speaker}", "0_ada_0.wav is not named by the pattern"),
        ("digit", "names are read by a pattern such as"),
        ("{a}_{a}_*", "each label once"),
    ],
)
def test_patterns_that_do_not_fit_are_refused(tmp_path: Path, names: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        opened(recordings(tmp_path, 4), name_pattern=names)


def test_files_are_held_out_not_windows(tmp_path: Path) -> None:
    for i in range(30):
        write(tmp_path / f"{i:02}.wav", np.full(3000, (i + 1) / 100, np.float32) + tone(0.75, gain=0.001))
    files = [
        {round(float(v), 2) for v in everything(open_source(f"{tmp_path}:{split}", ReadOptions(window=1000))).mean(2)[:, 0]}
        for split in ("train", "test")
    ]
    assert not files[0] & files[1]
    assert len(files[0] | files[1]) == 30
    assert 1 <= len(files[1]) <= 8


def test_train_and_test_folders_are_the_split(tmp_path: Path) -> None:
    for part, n in (("train", 3), ("test", 2)):
        for i in range(n):
            write(tmp_path / part / f"{i}.wav", tone(0.5))
    assert [open_source(f"{tmp_path}:{p}", ReadOptions(window=1000)).size for p in ("train", "test")] == [6, 4]


def test_a_zip_of_sounds_is_a_folder(tmp_path: Path) -> None:
    root = recordings(tmp_path / "r", 8)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for path in sorted(root.iterdir()):
            archive.write(path, f"r/{path.name}")
    a, b = (opened(path, name_pattern="{digit}_{speaker}_*") for path in (root, tmp_path / "x.zip"))
    assert torch.equal(everything(a), everything(b))
    assert a.labels == b.labels


def test_a_batch_is_a_function_of_its_position(tmp_path: Path) -> None:
    root = recordings(tmp_path)
    source = open_source(f"{root}:all", ReadOptions(window=500, name_pattern="{digit}_*"), seed=3)
    whole = source.take(0, 200)
    part = source.take(120, 50)
    assert torch.equal(part.signals, whole.signals[120:170])
    assert torch.equal(part.labels["digit"], whole.labels["digit"][120:170])
    assert source.shuffled().fingerprint != source.fingerprint != opened(root, 500, hop=250).fingerprint
    with pytest.raises(UserError, match="never halved"):
        source.take(0, 1, level=1)


def test_decoding_happens_once_and_a_changed_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = recordings(tmp_path / "r", 4)
    first = everything(opened(root))
    with monkeypatch.context() as patch:
        patch.setattr("anamorph.data.sound_files.decode_sound", lambda *a: pytest.fail("decoded again"))
        assert torch.equal(everything(opened(root)), first)
    monkeypatch.setattr(shards, "SHARD_BYTES", 2 * 1000 * 2)  # two windows each
    write(root / "0_ada_0.wav", tone(0.25, 999))
    again = everything(opened(root))
    assert len(list((shards.cache_folder() / "shards").rglob("*.i16"))) == 1 + 3  # five windows
    assert torch.equal(again[1:], first[1:])
    assert not torch.equal(again[0], first[0])


def bad_files(root: Path) -> dict[str, str]:
    """Files that cannot be used, and why."""
    whole = write(root / "whole.flac", tone()).read_bytes()
    write(root / "silent.wav", np.zeros(1000, np.float32))
    write(root / "constant.wav", np.full(1000, 0.25, np.float32))
    write(root / "empty.wav", np.zeros(0, np.float32))
    write(root / "nan.wav", np.where(np.arange(1000) == 7, np.nan, tone(0.25)).astype(np.float32), subtype="FLOAT")
    write(root / "inf.wav", np.where(np.arange(1000) == 7, np.inf, tone(0.25)).astype(np.float32), subtype="FLOAT")
    (root / "cut.flac").write_bytes(whole[: len(whole) // 2])
    (root / "nothing.wav").write_bytes(b"")
    (root / "text.ogg").write_text("no sound at all")
    (root / "head.wav").write_bytes(b"RIFF" + bytes(40))
    return {
        "silent.wav": "it is silent from beginning to end",
        "constant.wav": "it is silent from beginning to end",
        "empty.wav": "it holds no samples",
        "nan.wav": "it holds NaN or infinite samples",
        "inf.wav": "it holds NaN or infinite samples",
        "cut.flac": "not readable as a sound, damaged or cut short",
        "nothing.wav": "not readable as a sound, damaged or cut short",
        "text.ogg": "not readable as a sound, damaged or cut short",
        "head.wav": "not readable as a sound, damaged or cut short",
    }


def test_bad_files_are_left_out_and_told_or_refused_by_name(tmp_path: Path) -> None:
    bad = bad_files(tmp_path)
    source = opened(tmp_path)
    assert source.size == 2  # two windows of the whole one
    (text,) = [note for note in source.notes if "left out" in note]
    assert text.startswith(
        "9 of 10 sounds were left out, for example constant.wav: it is silent from beginning to end; cut.flac: "
    )
    for name, why in bad.items():
        with pytest.raises(UserError) as refused:
            read_sounds([tmp_path / name], Audio(1, 1000, RATE))
        assert f"cannot read {tmp_path / name}: {why}" in str(refused.value)
        assert "BytesIO" not in str(refused.value)
        assert "BufferedReader" not in str(refused.value)
    (tmp_path / "whole.flac").unlink()
    with pytest.raises(UserError, match="none of 9 sounds could be read; for example"):
        opened(tmp_path)


def test_too_many_bad_files_stop_it(tmp_path: Path) -> None:
    write(tmp_path / "good.wav", tone())
    for i in range(12):
        (tmp_path / f"bad{i}.wav").write_bytes(b"rubbish")
    with pytest.raises(UserError, match="too many of 13 sounds cannot be used .* repair or remove"):
        opened(tmp_path)


def test_what_can_be_repaired_is_repaired_and_told(tmp_path: Path) -> None:
    write(tmp_path / "clipped.wav", np.clip(4 * tone(0.25), -1, 1))
    write(tmp_path / "loud.wav", 8 * tone(0.25), subtype="FLOAT")
    whole = write(tmp_path / "cut.wav", tone(0.5)).read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: 44 + 2 * 1000])
    write(tmp_path / "peak.wav", np.where(np.arange(1000) == 99, 1, tone(0.25)).astype(np.float32))  # one alone is no clipping
    source = opened(tmp_path)
    assert set(source.notes) == {
        "1 sound was clipped (3 samples or more in a row at full scale), and left as they are",
        "1 sound was louder than full scale, and scaled down to it",
        "1 sound was shorter than their headers say, and used as far as they go",
    }
    x = dict(zip(("clipped", "cut", "loud", "peak"), everything(source), strict=True))
    torch.testing.assert_close(x["loud"][0], torch.from_numpy(2 * tone(0.25)), atol=0.01, rtol=0)  # not clipped
    torch.testing.assert_close(x["cut"][0], torch.from_numpy(tone(0.25)), atol=1e-4, rtol=0)


def test_folders_without_sounds_with_both_or_with_unread_kinds_are_named(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "notes.txt").write_text("no sound")
    with pytest.raises(UserError, match=r"no images in .*none, and no sounds: it holds no file that Pillow reads, no \.wav"):
        opened(tmp_path / "none")
    (tmp_path / "none" / "song.m4a").write_bytes(b"m4a")
    with pytest.raises(
        UserError, match=r"none holds song\.m4a, which is of a kind that is not read: convert such sounds to \.flac"
    ):
        opened(tmp_path / "none")
    write(tmp_path / "both" / "a.wav", tone())
    Pillow.new("RGB", (8, 8)).save(tmp_path / "both" / "cover.png")
    with pytest.raises(UserError, match=r"both holds 1 images, such as cover\.png, and 1 sounds, such as a\.wav: put them"):
        opened(tmp_path / "both")
    with zipfile.ZipFile(tmp_path / "both.zip", "w") as archive:
        for path in (tmp_path / "both").iterdir():
            archive.write(path, path.name)
    with pytest.raises(UserError, match=r"both\.zip holds 1 images"):
        opened(tmp_path / "both.zip")
    with pytest.raises(UserError, match=r"a\.wav is one sound: put it into a folder, and name that"):
        open_source(str(tmp_path / "both" / "a.wav"))


def test_wishes_for_images_are_refused_of_sounds_and_the_other_way_round(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", tone())
    with pytest.raises(UserError, match="a size is for images, and these are sounds: choose a --window"):
        opened(tmp_path, size=(8, 8))
    with pytest.raises(UserError, match=r"only images are flipped: leave out mirror \(--mirror\)"):
        open_source(f"{tmp_path}:all", mirror=True)
    with pytest.raises(UserError, match="are for sounds, and these are images: choose a --size"):
        open_source("digits", ReadOptions(window=64))
    with pytest.raises(UserError, match="images are read as 1 .*, got 2"):
        open_source("digits", ReadOptions(channels=2))
    with pytest.raises(
        UserError, match=r"digits has no files whose names could be read: leave out name_pattern \(--name-pattern\)"
    ):
        open_source("digits", ReadOptions(name_pattern="{digit}_*"))


def test_without_soundfile_the_remedy_is_named_and_fsdd_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.wav", tone())
    known = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "soundfile":
            raise ImportError("No module named 'soundfile'")
        return known(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"sounds are read by soundfile \(No module.*pip install anamorph\[sound\]"):
        opened(tmp_path)


def test_single_files_are_brought_to_a_models_own_sound_and_told(tmp_path: Path) -> None:
    write(tmp_path / "long.wav", np.stack([tone(1, rate=8000)] * 2, 1), 8000)
    write(tmp_path / "short.flac", tone(0.1))
    x, notes = read_sounds([tmp_path / "long.wav", tmp_path / "short.flac"], Audio(1, 1000, RATE))
    assert x.shape == (2, 1, 1000)
    assert notes == [
        f"{tmp_path}/long.wav was cut to its first 0.25 s, mixed down from 2 channels to one, resampled from 8,000 to 4,000 Hz",
        f"{tmp_path}/short.flac was padded with silence",
    ]
    (tmp_path / "a.txt").write_text("text")
    for name, message in (
        ("a.txt", "wanted a sound file"),
        ("none.wav", "No such file"),
        ("", "wanted a sound|Is a directory"),
    ):
        with pytest.raises(UserError, match=message):
            read_sounds([tmp_path / name], Audio(1, 1000, RATE))


def test_the_spoken_digits_have_their_official_split(real_data: Path) -> None:
    train, test = (open_source("fsdd", split=split).in_order() for split in ("train", "test"))
    assert (train.size, test.size, train.signal) == (2700, 300, Audio(1, 8192, 8000))
    assert [(label.name, len(label.classes)) for label in train.labels] == [("digit", 10), ("speaker", 6)]
    held = test.take(0, 300)
    for label, n in (("digit", 30), ("speaker", 50)):
        assert torch.bincount(held.labels[label]).tolist() == [n] * (300 // n)
    assert "17 clips were longer than a window, and cut at its end" in train.notes
    assert float(held.signals.abs().amax((1, 2)).min()) > 0.01
    assert float(held.signals.abs().max()) <= 1


def test_the_spoken_digits_are_those_of_the_file(real_data: Path) -> None:
    packed = dict(np.load(real_data / "fsdd" / "fsdd_8k_int16.npz"))
    source = open_source("fsdd:all", ReadOptions(window=4096)).in_order()
    rows = [0, 1234, 2999]
    for row in rows:
        start, n = int(packed["start"][row]), min(int(packed["length"][row]), 4096)
        found = source.take(row, 1)
        assert np.array_equal(found.signals[0, 0, :n].numpy() * 32768, packed["audio"][start : start + n])
        assert float(found.signals[0, 0, n:].abs().sum()) == 0
        assert int(found.labels["digit"]) == packed["digit"][row]
    with pytest.raises(
        UserError, match="fsdd is read at 8000 Hz in one channel, as it is: leave out --sample-rate and --channels"
    ):
        open_source("fsdd", ReadOptions(sample_rate=16000))
