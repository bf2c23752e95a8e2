"""Sounds for tests: files of tones, sources of noise, and a small model that reads who speaks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor, nn

from anamorph import catalog
from anamorph.core.model import Encodes, Labels, Noise, Samples
from anamorph.core.optimizer import Adam
from anamorph.core.random import Random
from anamorph.core.recipe import LossOutput, Phase, Recipe
from anamorph.core.signal import Audio, Batch, Label
from anamorph.core.space import Codes, Space
from anamorph.core.stage import Stage
from anamorph.data.decode_sound import PcmSamples
from anamorph.data.order import Integers
from anamorph.data.sounds import Sounds

RATE = 4000
SPEAKERS = ("ada", "ben", "cleo")


def tone(seconds: float = 0.5, hertz: float = 440.0, rate: int = RATE, gain: float = 0.5) -> NDArray[np.float32]:
    return (gain * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path: Path, x: NDArray[np.floating[Any]], rate: int = RATE, subtype: str = "PCM_16") -> Path:
    """A file of samples [N] or [N, C], in the format of its ending."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".ogg": "VORBIS", ".opus": "OPUS", ".mp3": "MPEG_LAYER_III"}.get(path.suffix, subtype)
    soundfile.write(path, x, rate, format="OGG" if path.suffix == ".opus" else None, subtype=kind)
    return path


def recordings(root: Path, n: int = 24) -> Path:
    """Files such as 3_ada_0.wav, the pitch of which is the number's."""
    for i in range(n):
        number, speaker, take = i % 4, SPEAKERS[i // 4 % 3], i // 12
        write(root / f"{number}_{speaker}_{take}.wav", tone(0.2 + 0.05 * (i % 3), 200 * (number + 1)))
    return root


@dataclass(frozen=True)
class Held:
    """Windows in memory."""

    array: PcmSamples
    audio: Audio
    fingerprint: str = "held"

    def __len__(self) -> int:
        return len(self.array)

    def read(self, rows: Integers) -> PcmSamples:
        return self.array[rows]


def source_of(n: int, samples: int, rate: int) -> Sounds:
    """Noise, with a speaker for each."""
    generator = np.random.default_rng(0)
    array = generator.integers(-20_000, 20_000, (n, 1, samples)).astype(np.int16)
    speaker = generator.integers(0, 3, n)
    return Sounds(
        "noise", Held(array, Audio(1, samples, rate)), np.arange(n), (Label("speaker", SPEAKERS),), {"speaker": speaker}
    )


@dataclass(frozen=True)
class SpeakingConfig:
    z_dim: int = 4
    speakers: int = 3


class Speaking(Encodes, Samples):
    """A linear autoencoder whose decoder is conditioned on the speaker, and whose encoder does not infer it."""

    def __init__(self, signal: Audio, config: SpeakingConfig) -> None:
        super().__init__()
        self.signal, self.config = signal, config
        self.spaces = (Space("z", (config.z_dim,)), Space("speaker", (), config.speakers, role="label"))
        self.classes = {"speaker": config.speakers}
        self.inward = nn.Linear(signal.num_values, config.z_dim)
        self.outward = nn.Linear(config.z_dim, signal.num_values)
        self.voice = nn.Embedding(config.speakers, signal.num_values)

    def _encode(self, x: Tensor, labels: Labels) -> Codes:
        return {"z": self.inward(x.flatten(1))}

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        return (self.outward(codes["z"]) + 0.1 * self.voice(codes["speaker"])).unflatten(1, self.signal.shape)

    def sample_codes(self, n: int, random: Random, labels: Labels | None = None) -> Codes:
        z = random.normal(n, self.config.z_dim)
        speaker = random.integers(0, self.config.speakers, (n,))
        return {"z": z, "speaker": (labels or {}).get("speaker", speaker)}


def recipe(model: Speaking) -> Recipe:
    def loss(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        codes = {**model.encode(batch.signals), "speaker": batch.labels["speaker"]}
        return LossOutput({"error": (model.decode(codes) - batch.signals).square().mean()})

    return Recipe((Phase("rec", loss, (model,), ("adam",)),), {"adam": Adam(list(model.parameters()), 0.01)})


@contextmanager
def speaking() -> Iterator[None]:
    """The model above stands in the catalog."""
    entry = catalog.ModelEntry(name="speaking", title="a test", module="sounds", model="Speaking", paper="", signals=("sound",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(catalog.MODELS, "speaking", entry)
        yield
