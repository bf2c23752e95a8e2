"""The experiment on spoken digits, small, on tones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anamorph.core.files import read_json
from anamorph.data.open import open_source
from anamorph.data.read_options import ReadOptions
from anamorph.metrics.factors import accuracy, train_factor_classifier
from anamorph.models.autoregressive.wavenet import WaveNetConfig
from anamorph.models.quantized.audio_vqvae import AudioVQVAEConfig
from anamorph.nn.wavenet_layers import WaveNetSizes
from anamorph.training.autotune import ComputeRequest
from experiments import speech
from experiments.speech import DIGIT, Heard, Speech, others_of, speech_study
from experiments.tokens import Stage
from sounds import recordings

NET = WaveNetSizes(layers=2, dilation_cycle=2, residual_channels=4, gate_channels=4, skip_channels=6, head_channels=6)
WANTED = ReadOptions(window=512, name_pattern="{digit}_{speaker}_*")


def test_a_reader_tells_tones_apart_by_their_spectrograms(tmp_path: Path) -> None:
    source = open_source(str(recordings(tmp_path, 48)), WANTED)
    heard = Heard(source)
    assert heard.take(0, 2).signals.shape == (2, *heard.signal.shape)
    assert float(heard.take(0, 8).signals.abs().max()) <= 1
    reader = train_factor_classifier(heard, 1200)
    assert reader is not None
    assert accuracy(reader, heard, source.size)[DIGIT] > 0.9


def test_sounds_heard_in_noise_are_a_function_of_position_and_each_has_a_noise_of_its_own(tmp_path: Path) -> None:
    source = open_source(str(recordings(tmp_path, 48)), WANTED)
    clean, noisy = Heard(source), Heard(source, (1e-4, 0.1))
    x = noisy.take(5, 8).signals
    assert torch.equal(x, noisy.take(5, 8).signals)
    changes = (x - clean.take(5, 8).signals).abs().flatten(1).mean(1)
    assert float(changes.max()) > 3 * float(changes.min()) > 0


def test_the_study_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "SHOWN", 2)
    study = Speech(
        str(recordings(tmp_path / "data", 48)),
        WANTED,
        Stage(
            "audio_vqvae",
            AudioVQVAEConfig(width=6, num_embeddings=8, embedding_dim=4, condition_channels=4, num_speakers=3, decoder=NET),
            16,
            8,
        ),
        Stage("wavenet", WaveNetConfig(network=NET, num_classes=4, label=DIGIT), 16, 8),
        heard=64,
        measured=4,
    )
    told: list[str] = []
    here = ComputeRequest("cpu", "float32", 1, False)
    assert not speech_study(study, tmp_path / "out", here, told.append, stop=lambda: True)
    assert speech_study(study, tmp_path / "out", here, told.append)
    found = read_json(tmp_path / "out" / "results.json")
    kinds = [row["sounds"] for row in found["rows"]]
    assert kinds == [
        "real sounds",
        "real sounds in noise",
        "reconstructions",
        "the same codes, another speaker",
        "another sound's codes",
        "drawn",
    ]
    assert found["rows"][0]["log-spectral distance, dB"] == 0
    assert all(row["log-spectral distance, dB"] > 0 for row in found["rows"][1:-1])
    assert all(0 <= row["digit as it should be"] <= 1 for row in found["rows"])
    assert found["facts"]["bits per second of codes, raw"] == 3 * 4000 // 64 + 1  # three bits, 4,000 Hz, 8 codes in 512 samples
    assert (tmp_path / "out" / "sounds.png").stat().st_size > 5000
    assert len(list((tmp_path / "out" / "sounds-sounds").glob("*.wav"))) == 8
    heard = (tmp_path / "out" / "heard.safetensors").stat().st_mtime_ns
    assert speech_study(study, tmp_path / "out", here, told.append)
    assert (tmp_path / "out" / "heard.safetensors").stat().st_mtime_ns == heard  # decoded once


def test_other_speakers_are_others_and_everyone_gets_his_turn() -> None:
    who = torch.zeros(10, dtype=torch.long)
    assert others_of(who, 6).tolist() == [1, 2, 3, 4, 5] * 2
    assert bool((others_of(torch.arange(60) % 6, 6) != torch.arange(60) % 6).all())
