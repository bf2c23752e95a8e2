"""Spoken digits as codes: whether classifiers still recognise the digit and the speaker."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anamorph.core.files import read_metadata, read_tensors, write_json, write_tensors
from anamorph.core.fingerprint import fingerprint_of
from anamorph.core.labels import encode_batch
from anamorph.core.model import LatentModel
from anamorph.core.random import Seeded
from anamorph.core.signal import Audio, Batch, Image, Label, Source
from anamorph.core.space import Codes
from anamorph.core.spectrum import log_mel
from anamorph.data.read_options import ReadOptions
from anamorph.figures.grid import Row
from anamorph.figures.show import show
from anamorph.metrics.factors import FactorClassifier, cached_factor_classifier, effective_classes
from anamorph.metrics.likelihood import code_cost
from anamorph.metrics.sound import log_spectral_distance
from anamorph.models.autoregressive.wavenet import WaveNetConfig
from anamorph.models.quantized.audio_vqvae import AudioVQVAE, AudioVQVAEConfig
from anamorph.models.two_stage import TwoStageModel
from anamorph.nn.quantize import perplexity
from anamorph.nn.wavenet_layers import WaveNetSizes
from anamorph.run_data import open_data
from anamorph.runs import load, settings_of
from anamorph.training.autotune import ComputeRequest
from anamorph.training.folder import RunFolder
from experiments.tokens import Stage, hours_of, taken_at, trained

__all__ = ["SPEECH", "Heard", "Speech", "others_of", "speech_study"]

DIGIT, SPEAKER = "digit", "speaker"
SHOWN, PART = 5, 100
BANDS, QUIETEST_DB = 64, -80.0
NOISE = (1e-4, 0.03)
"""The least and the most amplitude of white noise in which classifiers learn to read, so that a hiss does not deafen them."""
HISS = 0.01
"""Of noise under which they are tried, too."""


@dataclass(frozen=True)
class Speech:
    """Sounds labelled by digit and speaker, the model that encodes them, the prior over its codes, and the readers' data."""

    source: str
    wanted: ReadOptions
    first: Stage
    prior: Stage
    heard: int = 54_000
    measured: int = 300


SPEECH = Speech(
    "fsdd",
    ReadOptions(window=4096),
    Stage(
        "audio_vqvae",
        AudioVQVAEConfig(
            encoder_input="spectrum",
            num_embeddings=256,
            decoder=WaveNetSizes(
                layers=14,
                dilation_cycle=7,
                residual_channels=32,
                gate_channels=32,
                skip_channels=64,
                head_channels=64,
                scale_sums=False,
            ),
            spectrum_weight=3.0,
            input_noise=3.0,
            num_speakers=6,
            learning_rate=0.002,
        ),
        75_000,
        8,
    ),
    Stage(
        "wavenet",
        WaveNetConfig(
            network=WaveNetSizes(layers=12, dilation_cycle=6, residual_channels=64, gate_channels=64, dropout=0.1),
            num_classes=10,
            label=DIGIT,
        ),
        360_000,
        64,
    ),
)


@dataclass(frozen=True)
class Heard:
    """Sounds as the classifiers read them: pictures [n, 1, bands, frames] of their log-mel spectrograms, in [-1, 1].

    noise: the least and the most amplitude of white noise that is added to each.
    """

    sounds: Source
    noise: tuple[float, float] | None = None

    @property
    def signal(self) -> Image:
        return Image(1, *pictures(self.sounds.take(0, 1).signals, self.rate).shape[2:])

    @property
    def rate(self) -> int:
        assert isinstance(self.sounds.signal, Audio)
        return self.sounds.signal.sample_rate

    @property
    def size(self) -> int:
        return self.sounds.size

    @property
    def labels(self) -> tuple[Label, ...]:
        return self.sounds.labels

    @property
    def fingerprint(self) -> str:
        return self.sounds.fingerprint

    def take(self, start: int, count: int, level: int = 0) -> Batch:
        batch = self.sounds.take(start, count, level)
        x = batch.signals
        if self.noise:
            least, most = self.noise
            random = Seeded(start, "noise")
            x = x + least * (most / least) ** random.uniform(count, 1, 1) * random.normal(*x.shape)
        return Batch(pictures(x, self.rate), batch.labels)


def pictures(x: Tensor, rate: int) -> Tensor:
    """Of sounds [B, C, T]: [B, 1, bands, frames] in [-1, 1], from the quietest to full scale."""
    return 1 - 2 * log_mel(x, rate, BANDS).clamp(QUIETEST_DB, 0)[:, None] / QUIETEST_DB


def speech_study(
    study: Speech, out: Path, choice: ComputeRequest, say: Callable[[str], None], stop: Callable[[], bool] = lambda: False
) -> bool:
    """Train both stages and the classifiers, and write results.json, results.md, and sounds with their spectrograms.

    What has been done is not done again. Returns whether it came to its end, or was stopped.
    """
    for stage, folder, codes_of in ((study.first, out / "first", ""), (study.prior, out / "prior", str(out / "first"))):
        if not trained(study.source, stage, RunFolder(folder), choice, say, stop, wanted=study.wanted, codes_of=codes_of):
            return False
    settings = settings_of(RunFolder(out / "first"))
    train, held = (open_data(settings, split).shuffled() for split in ("train", "test"))
    reader_settings = f"{study.heard} sounds in noise of {NOISE}, {QUIETEST_DB:g} dB, {train.fingerprint}"
    noisy = Heard(train, NOISE)
    found = cached_factor_classifier(
        out / "reader.safetensors", reader_settings, noisy, Heard(held), study.heard, study.measured, say, stop
    )
    if found is None:
        return False
    model = load(out / "prior")
    assert isinstance(model, TwoStageModel)
    n = min(study.measured, held.size)
    batch = held.take(0, n)
    heard = _heard(model, batch, out / "heard.safetensors")
    facts = _facts(out, found[1]) | {"prior: nats per code, trained on": round(code_cost(model, train, n), 3)}
    facts |= {"prior: nats per code, held out": round(code_cost(model, held, n), 3)} | _likelihood(model, batch)
    rows = list(_measured(found[0], batch, heard, Heard(held).rate))
    write_json(out / "results.json", {"facts": facts, "rows": rows})
    (out / "results.md").write_text(_table(rows) + _list(facts), encoding="utf-8")
    _show(out, model, batch, heard)
    say(f"wrote {out / 'results.md'}")
    return True


@torch.no_grad()
def _heard(model: TwoStageModel, batch: Batch, path: Path) -> Codes:
    """What the model makes of sounds, and who speaks there: reconstructions; the same codes in another voice; the codes of
    another sound, each in the voice of its place; and what is drawn. Kept in a file, as it takes long."""
    kept = fingerprint_of(model)
    if path.is_file() and read_metadata(path).get("model") == kept:
        return read_tensors(path)[0]
    first, n = model.first_stage, len(batch)
    codes, speakers = encode_batch(first, batch), model.classes[SPEAKER]
    others = others_of(batch.labels[SPEAKER], speakers)
    digits = torch.arange(n) % model.classes[DIGIT]
    drawn = model.sample_codes(
        n, Seeded(0, "samples"), {DIGIT: digits, SPEAKER: torch.arange(n) // len(digits.unique()) % speakers}
    )
    made = {
        "reconstructions": codes,
        "conversions": codes | {SPEAKER: others},
        "other codes": {name: value.roll(1, 0) for name, value in codes.items()} | {SPEAKER: codes[SPEAKER]},
        "samples": drawn,
    }
    found = {name: _in_parts(model, its).clamp(-1, 1) for name, its in made.items()}
    found |= {f"{name}.{SPEAKER}": its[SPEAKER].clone() for name, its in made.items()} | {f"samples.{DIGIT}": digits}
    write_tensors(path, found, {"model": kept})
    return found


def others_of(who: Tensor, speakers: int) -> Tensor:
    """For each of some speakers [n] another one, by turns."""
    return (who + 1 + torch.arange(len(who)) % (speakers - 1)) % speakers


def _in_parts(model: LatentModel, codes: Codes) -> Tensor:
    """Sounds of many codes, each part with noise of its own."""
    n = len(codes[SPEAKER])
    parts = [
        model.decode({name: value[i : i + PART] for name, value in codes.items()}, Seeded(i, "heard"))
        for i in range(0, n, PART)
    ]
    return torch.cat(parts)


def _measured(reader: FactorClassifier, batch: Batch, heard: Codes, rate: int) -> Iterator[dict[str, Any]]:
    """For each kind of sound: how often what is said and who says it are read as they should be; how sure the reader is; and
    how far the spectra are from the original's."""
    said, who = batch.labels[DIGIT], batch.labels[SPEAKER]
    kinds = {
        "real sounds": (batch.signals, said, who),
        "real sounds in noise": (batch.signals + HISS * Seeded(0, "hiss").normal(*batch.signals.shape), said, who),
        "reconstructions": (heard["reconstructions"], said, who),
        "the same codes, another speaker": (heard["conversions"], said, heard["conversions.speaker"]),
        "another sound's codes": (heard["other codes"], said, who),
        "drawn": (heard["samples"], heard[f"samples.{DIGIT}"], heard[f"samples.{SPEAKER}"]),
    }
    for name, (x, digit, speaker) in kinds.items():
        chances = reader.probabilities(pictures(x, rate))
        read = {factor: its.argmax(1) for factor, its in chances.items()}
        row: dict[str, Any] = {"sounds": name, "n": len(x)}
        row["digit as it should be"] = _share(read[DIGIT] == digit)
        row["speaker as given"] = _share(read[SPEAKER] == speaker)
        row["speaker of the original"] = None if name == "drawn" else _share(read[SPEAKER] == who)
        row["sure of the digit"] = round(float(chances[DIGIT].amax(1).mean()), 3)
        row["digits, effectively"] = round(effective_classes(read)[DIGIT], 2)
        distance = log_spectral_distance(batch.signals, x, rate).mean()
        row["log-spectral distance, dB"] = None if name == "drawn" else round(float(distance), 2)
        yield row


def _share(right: Tensor) -> float:
    return round(float(right.float().mean()), 3)


def _facts(out: Path, accuracy: Mapping[str, float]) -> dict[str, Any]:
    return {
        "hours of CPU, first stage": hours_of(out / "first"),
        "hours of CPU, prior": hours_of(out / "prior"),
        "prior taken at, sounds": taken_at(RunFolder(out / "prior")),
        **{f"classifier right on held-out sounds: {name}": round(share, 3) for name, share in accuracy.items()},
    }


@torch.no_grad()
def _likelihood(model: TwoStageModel, batch: Batch) -> dict[str, Any]:
    """Of held-out sounds: the codes in use, what a code costs, and bits per sample given the codes and who speaks."""
    first = model.first_stage
    assert isinstance(first, AudioVQVAE)
    assert isinstance(first.signal, Audio)
    codes = encode_batch(first, batch)
    counts = torch.bincount(codes["codes"].flatten(), minlength=first.config.num_embeddings)
    parts = [
        first.decoder_log_likelihood(batch.signals[i : i + PART], {name: value[i : i + PART] for name, value in codes.items()})
        for i in range(0, len(batch), PART)
    ]
    nats = -torch.cat(parts).mean() / first.signal.samples
    raw = math.log2(first.config.num_embeddings) * codes["codes"][0].numel() / first.signal.seconds
    return {
        "codes in use": f"{int((counts > 0).sum())} of {first.config.num_embeddings}",
        "perplexity of codes": round(float(perplexity(counts.double())), 1),
        "bits per second of codes, raw": round(raw),
        "held out: bits per sample, given codes and speaker": round(float(nats) / math.log(2), 3),
    }


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads), *(["" if value is None else str(value) for value in row.values()] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def _list(facts: Mapping[str, Any]) -> str:
    return "".join(f"| {name} | {value} |\n" for name, value in facts.items())


def _show(out: Path, model: TwoStageModel, batch: Batch, heard: Codes) -> None:
    """The first sounds, what comes back of them, the first of them in every voice, and the first that are drawn."""
    first = {name: value[:1] for name, value in encode_batch(model.first_stage, batch).items()}
    speakers = model.classes[SPEAKER]
    every = {name: value.expand(speakers, *value.shape[1:]) for name, value in first.items()} | {
        SPEAKER: torch.arange(speakers)
    }
    rows = [
        Row("held out", batch.signals[:SHOWN]),
        Row("reconstructions", heard["reconstructions"][:SHOWN]),
        Row("another speaker", heard["conversions"][:SHOWN]),
        Row("drawn", heard["samples"][:SHOWN]),
    ]
    show(out / "sounds.png", model.signal, rows, f"The first {SHOWN}, unpicked")
    show(out / "voices.png", model.signal, [Row("the first in every voice", _in_parts(model, every).clamp(-1, 1))])
