"""Models of sounds in the studio: spectrograms that play, uploads, other voices, and what is refused."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from anamorph.cli.main import main
from anamorph.core.signal import Audio
from anamorph.figures.wav import read_wav, write_wav
from anamorph.metrics.sound import log_spectral_distance
from anamorph.studio.points import FromData, FromSeed, Relabelled
from anamorph.studio.sound_media import joined_sounds, shown_sound
from sounds import RATE, recordings, tone
from studios import bench_of, pixels, png_of

Visit = Callable[..., Any]
PLAIN = ["--threads", "1", "--compile", "off", "--precision", "float32", "--images", "32", "--batch", "8"]
SMALL = {"layers": 2, "dilation-cycle": 2, "residual-channels": 4, "gate-channels": 4, "skip-channels": 6, "head-channels": 6}
OWN = {"width": 6, "num-embeddings": 8, "embedding-dim": 4, "condition-channels": 4, "num-speakers": 3}
SEED = {"kind": "seed", "seed": 3}
# Counts sounds that have begun and ended. While `window.endless` is set, a sound plays until it is stopped.
RECORD_PLAYING = """() => {
  Object.assign(window, { began: 0, ended: 0, marked: 0, endless: false });
  const play = Audio.prototype.play;
  Audio.prototype.play = function () {
    this.loop = window.endless;
    this.addEventListener('ended', () => { window.ended += 1; });
    window.began += 1;
    window.marked += document.querySelectorAll('[data-playing]').length;
    return play.call(this);
  };
}"""
"""Counts the sounds that came to their end; while `endless`, none does, however slow the machine is."""


def words(sizes: dict[str, int], where: str = "model") -> list[str]:
    return [word for name, size in sizes.items() for word in (f"--{where}.{name}", str(size))]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a model of recordings, and a prior over its codes, for a few steps."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("runs")
    data = str(recordings(tmp_path_factory.mktemp("data")))
    source = ["--name-pattern", "{digit}_{speaker}_*", "--window", "1024"]
    first = ["train", "audio_vqvae", data, *PLAIN, *source, *words(OWN), *words(SMALL, "model.decoder")]
    assert main([*first, "--out", str(root / "first")]) == 0
    prior = ["train", "wavenet", data, *PLAIN, *words(SMALL, "model.network"), "--codes-of", str(root / "first")]
    assert main([*prior, "--out", str(root / "prior")]) == 0
    return root


def samples_of(content: bytes) -> Any:
    """Return the samples [C, N] of a WAV file, as any player reads them."""
    with wave.open(io.BytesIO(content), "rb") as file:
        assert file.getframerate() == RATE
        data = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return data.reshape(-1, file.getnchannels()).T / 32768


def error(answer: httpx.Response) -> str:
    assert answer.status_code == 422, answer.text
    return str(answer.json()["error"])


def wav_of(seconds: float = 0.2, hertz: float = 300.0) -> bytes:
    return joined_sounds(torch.from_numpy(tone(seconds, hertz))[None, None], RATE)


def test_a_live_sound_plays_and_contains_its_spectrogram() -> None:
    """The picture may have an odd number of bytes; a high tone is bright at the top."""
    for hertz, bright in ((150.0, slice(84, 126)), (1800.0, slice(0, 42))):
        x = torch.from_numpy(tone(0.25, hertz))[None]
        content = shown_sound(x, RATE)
        assert np.allclose(samples_of(content), x, atol=1 / 32768)
        assert struct.unpack("<I", content[4:8])[0] == len(content) - 8
        picture = pixels(content[content.index(b"spec") + 8 :])
        assert picture.shape == (126, 208, 3)
        assert picture[bright].mean() > 1.5 * picture.mean()


def test_sounds_follow_one_another_after_a_pause() -> None:
    x = torch.stack([torch.full((1, 10), 0.5), torch.full((1, 10), -0.5)])
    joined = samples_of(joined_sounds(x, RATE))[0]
    assert len(joined) == 20 + RATE // 4
    assert (joined[0], joined[10], joined[-1]) == (0.5, 0, -0.5)


def test_a_model_of_sounds_is_described(client: httpx.Client) -> None:
    prior = client.get("api/runs/prior").json()
    assert prior["signal"] | {"kind": "audio", "noun": "sound", "sample_rate": RATE, "samples": 1024} == prior["signal"]
    assert prior["panels"] == ["wall", "reconstruct", "training", "compare"]
    assert prior["decoder_labels"] == {"speaker": ["ada", "ben", "cleo"]}
    assert prior["data"]["size"] > 0


def test_sounds_pictures_and_codes_of_points(client: httpx.Client, runs: Path) -> None:
    bench = bench_of(runs / "prior")
    body = {"points": [SEED, {"kind": "data", "index": 1}]}
    response = client.post("api/runs/prior/decode", json=body | {"as": "wav"})
    assert response.headers["content-type"] == "audio/wav"
    decoded = bench.see([FromSeed(seed=3), FromData(index=1)]).clamp(-1, 1)
    assert np.allclose(samples_of(response.content)[:, :1024], decoded[0], atol=1 / 16384)
    assert np.allclose(samples_of(response.content)[:, -1024:], decoded[1], atol=1 / 16384)
    assert pixels(client.post("api/runs/prior/decode", json=body).content).shape[2] == 3
    assert len(client.post("api/runs/prior/decode", json=body | {"as": "codes"}).content) > 100
    assert "there are no films" in error(client.post("api/runs/prior/decode", json=body | {"as": "webp"}))


def test_the_same_codes_in_another_voice(client: httpx.Client, runs: Path) -> None:
    bench = bench_of(runs / "prior")
    codes = [bench.codes([Relabelled(of=FromData(index=0), labels=(("speaker", i),))]) for i in range(3)]
    assert [int(c["speaker"]) for c in codes] == [0, 1, 2]
    assert all(torch.equal(c["codes"], codes[0]["codes"]) for c in codes)
    assert int(bench.codes([FromData(index=0)])["speaker"]) == int(bench.held_out(0, 1).labels["speaker"])
    relabelled = {"kind": "relabel", "of": SEED, "labels": [["speaker", 1]]}
    voices = [client.post("api/runs/prior/decode", json={"points": [p], "as": "wav"}).content for p in (SEED, relabelled)]
    own = int(bench.codes([FromSeed(seed=3)])["speaker"])
    assert (voices[0] == voices[1]) == (own == 1)
    wrong = {"points": [relabelled | {"labels": [["speaker", 3]]}]}
    assert "speaker has classes 0-2, got 3" in error(client.post("api/runs/prior/decode", json=wrong))
    wrong = {"points": [relabelled | {"labels": [["voice", 0]]}]}
    assert "the decoder is not conditioned on 'voice'" in error(client.post("api/runs/prior/decode", json=wrong))


def test_an_uploaded_sound_is_fitted_and_encoded(client: httpx.Client, runs: Path) -> None:
    stored = client.post("api/images", content=wav_of()).json()
    assert (stored["seconds"], stored["rate"]) == (0.2, RATE)
    point = {"kind": "file", "digest": stored["digest"], "name": "mine.wav"}
    original = client.post("api/runs/first/original", json={"point": point})
    assert json.loads(original.headers["labels"]) == {}
    labels = client.post("api/runs/first/original", json={"point": {"kind": "data", "index": 0}}).headers["labels"]
    assert set(json.loads(labels)) == {"digit", "speaker"}
    assert original.headers["content-type"] == "audio/wav"
    x = samples_of(original.content)
    assert x.shape == (1, 1024)
    assert np.allclose(x[0, :800], tone(0.2, 300.0), atol=2 / 32768)
    assert not x[0, 800:].any()
    assert client.post("api/runs/first/decode", json={"points": [point], "as": "wav"}).status_code == 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (wav_of()[:40], "not readable as a sound"),
        (b"fLaC" + bytes(100), "not readable as a sound"),
        (b"OggS" + b"\xff" * 300, "not readable as a sound"),
        (joined_sounds(torch.zeros(1, 1, 601 * RATE), RATE), "601 seconds are over the limit of 600"),
    ],
)
def test_hostile_sounds_are_refused(client: httpx.Client, content: bytes, message: str) -> None:
    assert message in error(client.post("api/images", content=content))


def test_a_file_of_another_kind_is_refused_when_it_is_encoded(client: httpx.Client) -> None:
    for content, message in ((png_of(), "cat.png is no sound"), (joined_sounds(torch.zeros(1, 1, 99), RATE), "silent")):
        digest = client.post("api/images", content=content).json()["digest"]
        point = {"kind": "file", "digest": digest, "name": "cat.png"}
        text = error(client.post("api/runs/first/decode", json={"points": [point]}))
        assert message in text
        assert "/tmp" not in text


def test_the_python_code_writes_the_same_sounds(client: httpx.Client, runs: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "mine.wav", torch.from_numpy(tone(0.2))[None], RATE)
    digest = client.post("api/images", content=(tmp_path / "mine.wav").read_bytes()).json()["digest"]
    file = {"kind": "file", "digest": digest, "name": "mine.wav"}
    points = [SEED, {"kind": "data", "index": 0}, {"kind": "relabel", "of": file, "labels": [["speaker", 2]]}]
    script = client.post("api/runs/prior/decode", json={"points": points, "as": "python"}).text
    expected = samples_of(client.post("api/runs/prior/decode", json={"points": points, "as": "wav"}).content)
    (tmp_path / "script.py").write_text(script)
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, check=True)
    names = json.loads((tmp_path / "sounds-sounds" / "sounds.json").read_text())
    step = 1024 + RATE // 4
    for i, name in enumerate(names):
        written = read_wav(tmp_path / "sounds-sounds" / name)
        assert np.allclose(written, expected[:, i * step : i * step + 1024], atol=1 / 16384)


def test_the_wall_draws_spectrograms_that_play(visit: Visit) -> None:
    page = visit("prior", "wall")
    page.wait_for_function("() => document.querySelectorAll('.tile canvas[data-shown]').length >= 8")
    assert page.locator(".tile canvas").first.evaluate("c => [c.width, c.height]") == [208, 126]
    page.evaluate(RECORD_PLAYING)
    page.locator(".tile .slot").nth(2).click()
    assert page.inner_text(".now .name") == "seed 3"
    page.wait_for_function("() => ended === 1 && document.querySelectorAll('[data-playing]').length === 0")
    assert page.evaluate("() => [began, marked]") == [1, 1]  # it was marked while it played
    page.evaluate("() => { endless = true; }")
    page.locator(".tile .slot").nth(2).click()
    assert page.locator(".tile [data-playing]").count() == 1
    page.locator(".tile .slot").nth(2).click()  # stops it
    assert page.locator("[data-playing]").count() == 0
    page.evaluate("() => { endless = false; }")
    page.wait_for_function("() => document.documentElement.dataset.pending === '0'")  # a sound that is replaced stops
    page.click(".now-acts [aria-label='Play']")
    page.wait_for_function("() => began === 3 && ended === 2")
    page.click("#panel .head [aria-label='Save'], #panel .head >> text=Save")
    with page.expect_download() as download:
        page.click("#panel .head >> text=Sound (WAV)")
    assert samples_of(Path(download.value.path()).read_bytes()).shape[1] > 8 * 1024


def test_a_dropped_sound_comes_back_and_in_another_voice(visit: Visit, tmp_path: Path, runs: Path) -> None:
    page = visit("first", "reconstruct")
    (tmp_path / "mine.wav").write_bytes(wav_of())
    page.set_input_files("#panel input[type=file]", tmp_path / "mine.wav")
    page.wait_for_function("() => document.querySelector('.now .name').textContent === 'mine.wav'")
    page.wait_for_selector(".numbers >> text=log-spectral distance")
    distance = float(page.inner_text(".numbers dd").split()[0])
    assert 0 < distance < 80
    page.wait_for_function("() => document.documentElement.dataset.pending === '0'")
    before = page.locator(".stage .over canvas").get_attribute("data-shown")
    page.select_option("#panel select[data-name=speaker]", label="cleo")
    page.wait_for_function("shown => document.querySelector('.stage .over canvas').dataset.shown !== shown", arg=before)
    assert page.inner_text(".now .name") == "mine.wav, cleo"
    (tmp_path / "no.png").write_bytes(png_of())
    page.set_input_files("#panel input[type=file]", tmp_path / "no.png")
    page.wait_for_function("() => window.toasts.includes('Drop sound files: WAV, FLAC or OGG')")


def test_models_of_sounds_are_compared_in_decibels(visit: Visit, runs: Path) -> None:
    page = visit("prior", "compare")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.compare-row .number')].filter(e => / dB$/.test(e.textContent)).length === 2"
    )
    shown = float(page.locator(".compare-row .number").first.inner_text().split()[1])
    bench = bench_of(runs / "first")
    points = [FromData(index=i % bench.data.size) for i in range(6)]  # with their own speakers
    x = torch.cat([bench.held_out(p.index, 1).signals for p in points])
    assert isinstance(bench.model.signal, Audio)
    expected = log_spectral_distance(bench.see(points).clamp(-1, 1), x, RATE).mean()
    assert abs(shown - float(expected)) < 0.3
