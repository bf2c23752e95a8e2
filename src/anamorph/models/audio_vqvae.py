"""The vector-quantised autoencoder of sounds: a discrete code of what is said, and a WaveNet that says it in a voice.

van den Oord, Vinyals, Kavukcuoglu 2017, "Neural Discrete Representation Learning", arXiv:1711.00937, section 4.3. Who speaks is
told to the decoder alone, so that the same codes with another speaker are the same words in another voice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from anamorph.core.config import check
from anamorph.core.errors import UserError
from anamorph.core.model import Encodes, Explains, Noise
from anamorph.core.optimizer import UNUSUAL, Adam
from anamorph.core.precision import full_precision
from anamorph.core.prior import Taste
from anamorph.core.random import Random, Seeded
from anamorph.core.recipe import Outcome, Phase, Recipe
from anamorph.core.signal import Audio, Batch, Signal
from anamorph.core.space import Codes, Space
from anamorph.core.spectrum import log_mel
from anamorph.core.stage import Stage
from anamorph.nn.dilated import DilatedConfig, DilatedNet
from anamorph.nn.dilated_walk import NetWalk
from anamorph.nn.quantize import Codebook, Learning, Quantized, perplexity
from anamorph.nn.scale import compand, from_mu_law, to_mu_law
from anamorph.nn.walk import draw_ids

__all__ = ["AudioVQVAE", "AudioVQVAEConfig", "recipe"]

LEVELS = 256
"""Of companded samples."""
BANDS = 40
"""Of the spectrum that codes may have to tell."""
HEARD = 80
"""Bands of the spectrum that the encoder may read."""


@dataclass(frozen=True)
class AudioVQVAEConfig:
    """Sizes, quantiser and decoder."""

    stride: int = 64
    """How many samples a code stands for; a power of two."""
    hears: Literal["samples", "spectrum"] = "samples"
    """What the encoder reads. samples: by strided convolutions, as in the paper. spectrum: a log-mel spectrum with a frame for
    each code (as Chorowski et al. 2019, arXiv:1901.08810, have cepstra), in which what is said need not be found first. It is
    relative to the loudest of the sound: how loud a voice is, which tells whose it is, is left to the decoder."""
    width: int = 128
    """Channels of the encoder."""
    blocks: int = 2
    """Residual blocks of the encoder."""
    maps: int = 1
    """Codes at each time, side by side, all from one codebook."""
    vocabulary: int = 512
    """Codes of the codebook."""
    code_dim: int = 64
    """Features of a code."""
    learning: Learning = "average"
    """The codebook follows running means of what chose it, or learns by gradient, as in the paper."""
    commitment: float = 0.25
    """Weight of |z - sg(e)|^2, the mean over all values."""
    decay: float = 0.99
    """average: of the running means, per step."""
    restart: float = 0.01
    """A code used less than this share of an even use is put at an output of the encoder; 0: never, as in the paper."""
    kmeans: bool = True
    """Begin the codebook with iterations of k-means."""
    decoder: DilatedConfig = DilatedConfig()
    """The WaveNet p(x | codes, speaker)."""
    told: int = 64
    """Channels in which the decoder is told of the codes."""
    spectrum: float = 0.0
    """Weight of the mean squared error, in units of 20 dB, of a log-mel spectrum that is read off what the decoder is told, so
    that codes say something before the decoder knows what to do with them; 0: none, as in the paper."""
    noise: float = 0.0
    """Standard deviation, in levels, of what is added to the past that the decoder reads while training, so that it heeds the
    codes and is not led astray by what it has drawn (Jin et al. 2018, "FFTNet", section 2.3); 0: none, as in the paper."""
    components: int = 0
    """Samples are numbers under a mixture of so many logistics; 0: each of their 256 levels has a logit."""
    label: str = "speaker"
    """The label that says who speaks."""
    speakers: int = 0
    """How many there are; 0: the decoder is not told."""
    rate: float = 0.0003
    """Adam's learning rate."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "maps", "code_dim", "told")
        check(self, "above 0", "rate")
        check(self, "at least 0", "commitment", "blocks", "components", "speakers", "spectrum", "noise")
        check(self, "in [0, 1)", "decay", "restart")
        if self.vocabulary < 2 or self.width < 2:
            raise UserError(f"vocabulary and width must be at least 2, got {self.vocabulary} and {self.width}")
        if self.stride < 2 or self.stride & (self.stride - 1):
            raise UserError(f"a stride is a power of two from 2 on, got {self.stride}")


class AudioVQVAE(Encodes, Explains):
    """Maps sounds [B, 1, T] in [-1, 1] to codes [B, maps, T / stride], whole numbers, of which the t-th stands for samples
    stride * t to stride * t + stride - 1; and codes with a speaker [B] back to sounds.

    Raises: UserError for a signal that is no sound of one channel, or whose length the stride does not divide.
    """

    signal: Audio

    def __init__(self, signal: Signal, config: AudioVQVAEConfig) -> None:
        super().__init__()
        self.signal, self.config = _fitting(signal, config.stride), config
        c = config
        features = c.maps * c.code_dim
        self.spaces = (Space("codes", (c.maps, signal.shape[1] // c.stride), c.vocabulary),)
        if c.speakers:
            self.spaces += (Space(c.label, (), c.speakers),)
            self.classes = {c.label: c.speakers}
        if c.hears == "spectrum":
            self.encoder: nn.Module = _Listener(c.width, c.blocks, c.stride, self.signal.rate)
        else:
            self.encoder = _Encoder(c.width, c.blocks, c.stride)
        self.project = nn.Conv1d(c.width, features, 1)
        self.codebook = Codebook(c.vocabulary, c.code_dim, c.learning, decay=c.decay, restart=c.restart, kmeans=c.kmeans)
        self.reader = nn.Sequential(
            nn.Conv1d(features, c.told, 3, padding=1), nn.ReLU(), nn.Conv1d(c.told, c.told, 3, padding=1)
        )
        self.spectrum = _Spectrum(c.told, c.speakers) if c.spectrum else None
        self.decoder = DilatedNet(1, LEVELS, c.decoder, classes=c.speakers, told=c.told, components=c.components, ordered=True)

    def quantize(self, x: Tensor, random: Random | None = None) -> Quantized:
        """vectors [B, maps, t, D] and ids [B, maps, t]. random: the codebook learns from x."""
        z: Tensor = self.project(self.encoder(x))
        found: Quantized = self.codebook(z.unflatten(1, (self.config.maps, -1)).movedim(2, -1), random)
        return found

    def encode(self, x: Tensor) -> Codes:
        return {"codes": self.quantize(x).ids}

    @torch.no_grad()
    def decode(self, codes: Codes, noise: Noise = "fixed") -> Tensor:
        """A sample of p(x | codes), always: what is likeliest at each step, step by step, is silence. Where no random numbers
        are given, the same ones for all sounds, which are thus a function of their codes."""
        n = len(codes["codes"])
        if isinstance(noise, Random):
            chances = noise.uniform(n, 1, 1, self.signal.samples)
        else:
            fixed = Seeded(0, "samples", device=codes["codes"].device)
            chances = fixed.uniform(1, 1, 1, self.signal.samples).expand(n, -1, -1, -1)
        with full_precision(chances):
            told = self.tell(self.codebook.lookup(codes["codes"]))
            walk = NetWalk(self.decoder, n, self.signal.samples, self._speaker(codes), told)
            return from_mu_law(draw_ids(walk, chances, Taste()).squeeze(2), LEVELS)

    def explain(self, x: Tensor, codes: Codes) -> Tensor:
        """log p(x | codes) [B] in nats, of the levels that samples are nearest to."""
        return self.score(x, self.codebook.lookup(codes["codes"]), self._speaker(codes))

    def score(self, x: Tensor, vectors: Tensor, speaker: Tensor | None, random: Random | None = None) -> Tensor:
        """The same, given the codes' vectors [B, maps, t, D]. random: for what chance leaves out and adds while training."""
        ids = to_mu_law(x, LEVELS)
        read = ids if random is None else _noisy(ids, self.config.noise, random)
        return self.decoder.log_prob(ids, self.decoder(read, speaker, self.tell(vectors), random))

    def tell(self, vectors: Tensor) -> Tensor:
        """What the decoder is told [B, told, t] of vectors [B, maps, t, D]."""
        features: Tensor = self.reader(vectors.movedim(-1, 2).flatten(1, 2))
        return features

    def spectral_error(self, x: Tensor, vectors: Tensor, speaker: Tensor | None) -> Tensor:
        """The mean squared error, in units of 20 dB, of the spectrum that the codes' vectors and the speaker tell."""
        assert self.spectrum is not None
        found: Tensor = self.spectrum(self.tell(vectors), speaker)
        return (found - _frames(x, self.signal.rate, BANDS, self.config.stride)).square().mean()

    def _speaker(self, labels: Codes) -> Tensor | None:
        if not self.config.speakers:
            return None
        if self.config.label not in labels:
            raise UserError(f"decoding needs to know who speaks: give codes of {self.spaces[1]}, too")
        return labels[self.config.label]


def _fitting(signal: Signal, stride: int) -> Audio:
    if not isinstance(signal, Audio):
        raise UserError(f"audio_vqvae is for sounds, got images of {signal}: use vqvae")
    if signal.channels != 1:
        raise UserError(f"audio_vqvae is for sounds of one channel, got {signal.channels}: mix them down")
    if signal.samples < stride or signal.samples % stride:
        fit = max(stride, round(signal.samples / stride) * stride)
        raise UserError(
            f"a code stands for {stride} samples, which do not divide {signal.samples}: use windows of {fit} samples "
            f"({fit / signal.rate:g} s), or another --model.stride"
        )
    return signal


def _noisy(ids: Tensor, levels: float, random: Random) -> Tensor:
    """Levels of samples with so much noise added to them."""
    if not levels:
        return ids
    return (ids + (levels * random.normal(*ids.shape)).round().to(ids.dtype)).clamp(0, LEVELS - 1)


def _frames(x: Tensor, rate: int, bands: int, stride: int) -> Tensor:
    """A log-mel spectrum [B, bands, T / stride] of sounds [B, 1, T], at the middle of what each code stands for, in units of 20
    dB above -40 dB."""
    frames = log_mel(x, rate, bands, stride)
    return (frames[:, :, :-1] + frames[:, :, 1:]) / 40 + 2


class _Listener(nn.Module):
    """[B, 1, T] to [B, width, T / stride], by residual blocks over frames of a spectrum."""

    def __init__(self, width: int, blocks: int, stride: int, rate: int) -> None:
        super().__init__()
        self.stride, self.rate = stride, rate
        self.first = nn.Conv1d(HEARD, width, 3, padding=1)
        self.blocks = nn.Sequential(*[_Residual(width) for _ in range(blocks)])

    def forward(self, x: Tensor) -> Tensor:
        frames = _frames(x, self.rate, HEARD, self.stride)
        relative = frames - frames.amax((1, 2), keepdim=True) + 2
        out: Tensor = self.blocks(self.first(relative.clamp(min=-2)))  # 80 dB below the loudest
        return out


class _Encoder(nn.Sequential):
    """[B, 1, T] to [B, width, T / stride], by convolutions of window 4 and stride 2, each centred on what it halves, over
    companded samples."""

    def __init__(self, width: int, blocks: int, stride: int) -> None:
        strides = stride.bit_length() - 1
        layers: list[nn.Module] = []
        for i in range(strides):
            layers += [nn.Conv1d(width if i else 1, width, 4, stride=2, padding=1), nn.ReLU()]
        super().__init__(*layers, *[_Residual(width) for _ in range(blocks)])

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(compand(x))


class _Residual(nn.Sequential):
    """[B, width, t] to the same: x + conv1(relu(conv3(relu(x))))."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.ReLU(), nn.Conv1d(width, width, 3, padding=1), nn.ReLU(), nn.Conv1d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class _Spectrum(nn.Module):
    """What the decoder is told [B, told, t], and who speaks [B], to a spectrum [B, bands, t]."""

    def __init__(self, told: int, speakers: int) -> None:
        super().__init__()
        self.speaker = nn.Embedding(speakers, told) if speakers else None
        self.bands = nn.Conv1d(told, BANDS, 1)

    def forward(self, told: Tensor, speaker: Tensor | None) -> Tensor:
        if self.speaker is not None:
            told = told + self.speaker(speaker).unsqueeze(2)
        out: Tensor = self.bands(told.relu())
        return out


def recipe(model: AudioVQVAE) -> Recipe:
    """One phase: -log p(x | codes, speaker) per sample, and what the encoder and the codebook owe each other (equation 3)."""
    c = model.config

    def reconstruction(batch: Batch, stage: Stage, random: Random) -> Outcome:
        x = batch.signals
        found = model.quantize(x, random)
        speaker = batch.labels[c.label] if c.speakers else None
        nats = -model.score(x, found.vectors, speaker, random).mean() / model.signal.samples
        terms = {"nats_per_sample": nats, "commitment": c.commitment * found.commitment}
        if c.spectrum:
            terms["spectrum"] = c.spectrum * model.spectral_error(x, found.vectors, speaker)
        if c.learning == "loss":
            terms["codebook"] = found.learning
        return Outcome(terms, {"perplexity": perplexity(model.codebook.counts)})

    return Recipe(
        phases=(Phase("reconstruction", reconstruction, (model,), ("adam",), commit=(model.codebook.commit,)),),
        optimizers={"adam": Adam(list(model.parameters()), c.rate, clip=UNUSUAL)},
    )
