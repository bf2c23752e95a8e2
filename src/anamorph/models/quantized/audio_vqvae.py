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
from anamorph.core.model import Encodes, HasDecoderLikelihood, Labels, Noise
from anamorph.core.optimizer import SPIKE_CLIP, Adam
from anamorph.core.precision import autocast_off
from anamorph.core.prior import SamplingSettings
from anamorph.core.random import Random, Seeded
from anamorph.core.recipe import LossOutput, Phase, Recipe
from anamorph.core.signal import Audio, Batch, Signal
from anamorph.core.space import Codes, Space
from anamorph.core.spectrum import log_mel
from anamorph.core.stage import Stage
from anamorph.nn.incremental import sample_ids
from anamorph.nn.quantize import Codebook, CodebookUpdate, QuantizerOutput, perplexity
from anamorph.nn.value_ranges import from_mu_law, mu_law_compress, to_mu_law
from anamorph.nn.wavenet_decoder import WaveNetDecoder
from anamorph.nn.wavenet_layers import WaveNetNetwork, WaveNetSizes

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
    encoder_input: Literal["samples", "spectrum"] = "samples"
    """What the encoder reads. samples: by strided convolutions, as in the paper. spectrum: a log-mel spectrum with a frame for
    each code (as Chorowski et al. 2019, arXiv:1901.08810, have cepstra), in which what is said need not be found first. It is
    relative to the loudest of the sound: how loud a voice is, which tells whose it is, is left to the decoder."""
    width: int = 128
    """Channels of the encoder."""
    residual_blocks: int = 2
    """Residual blocks of the encoder."""
    codes_per_position: int = 1
    """Codes at each time, side by side, all from one codebook."""
    num_embeddings: int = 512
    """Codes of the codebook."""
    embedding_dim: int = 64
    """Features of a code."""
    codebook_update: CodebookUpdate = "ema"
    """The codebook follows running means of what chose it, or learns by gradient, as in the paper."""
    commitment_cost: float = 0.25
    """Weight of |z - sg(e)|^2, the mean over all values."""
    ema_decay: float = 0.99
    """average: of the running means, per step."""
    restart_threshold: float = 0.01
    """A code used less than this share of an even use is put at an output of the encoder; 0: never, as in the paper."""
    kmeans_init: bool = True
    """Begin the codebook with iterations of k-means."""
    decoder: WaveNetSizes = WaveNetSizes()
    """The WaveNet p(x | codes, speaker)."""
    condition_channels: int = 64
    """Channels in which the decoder is told of the codes."""
    spectrum_weight: float = 0.0
    """Weight of the mean squared error, in units of 20 dB, of a log-mel spectrum that is read off what the decoder is told, so
    that codes say something before the decoder knows what to do with them; 0: none, as in the paper."""
    input_noise: float = 0.0
    """Standard deviation, in levels, of what is added to the past that the decoder reads while training, so that it heeds the
    codes and is not led astray by what it has drawn (Jin et al. 2018, "FFTNet", section 2.3); 0: none, as in the paper."""
    mixture_components: int = 0
    """Samples are numbers under a mixture of so many logistics; 0: each of their 256 levels has a logit."""
    label: str = "speaker"
    """The label that says who speaks."""
    num_speakers: int = 0
    """How many there are; 0: the decoder is not told."""
    learning_rate: float = 0.0003
    """Adam's learning rate."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "codes_per_position", "embedding_dim", "condition_channels")
        check(self, "above 0", "learning_rate")
        check(
            self,
            "at least 0",
            "commitment_cost",
            "residual_blocks",
            "mixture_components",
            "num_speakers",
            "spectrum_weight",
            "input_noise",
        )
        check(self, "in [0, 1)", "ema_decay", "restart_threshold")
        if self.num_embeddings < 2 or self.width < 2:
            raise UserError(f"vocabulary and width must be at least 2, got {self.num_embeddings} and {self.width}")
        if self.stride < 2 or self.stride & (self.stride - 1):
            raise UserError(f"a stride is a power of two from 2 on, got {self.stride}")


class AudioVQVAE(Encodes, HasDecoderLikelihood):
    """Maps sounds [B, 1, T] in [-1, 1] to codes [B, maps, T / stride], whole numbers, of which the t-th stands for samples
    stride * t to stride * t + stride - 1; and codes with a speaker [B] back to sounds.

    Raises: UserError for a signal that is no sound of one channel, or whose length the stride does not divide.
    """

    signal: Audio
    quantity = "probability"

    def __init__(self, signal: Signal, config: AudioVQVAEConfig) -> None:
        super().__init__()
        self.signal, self.config = _fitting(signal, config.stride), config
        c = config
        features = c.codes_per_position * c.embedding_dim
        self.spaces = (Space("codes", (c.codes_per_position, signal.shape[1] // c.stride), c.num_embeddings),)
        if c.num_speakers:
            self.spaces += (Space(c.label, (), c.num_speakers, role="label"),)
            self.classes = {c.label: c.num_speakers}
        if c.encoder_input == "spectrum":
            self.encoder: nn.Module = _SpectrumEncoder(c.width, c.residual_blocks, c.stride, self.signal.sample_rate)
        else:
            self.encoder = _SampleEncoder(c.width, c.residual_blocks, c.stride)
        self.project = nn.Conv1d(c.width, features, 1)
        self.codebook = Codebook(
            c.num_embeddings,
            c.embedding_dim,
            c.codebook_update,
            decay=c.ema_decay,
            restart_threshold=c.restart_threshold,
            kmeans_init=c.kmeans_init,
        )
        self.condition_net = nn.Sequential(
            nn.Conv1d(features, c.condition_channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(c.condition_channels, c.condition_channels, 3, padding=1),
        )
        self.spectrum = _SpectrumHead(c.condition_channels, c.num_speakers) if c.spectrum_weight else None
        self.decoder = WaveNetNetwork(
            1,
            LEVELS,
            c.decoder,
            num_classes=c.num_speakers,
            condition_channels=c.condition_channels,
            mixture_components=c.mixture_components,
            ordered=True,
        )

    def quantize(self, x: Tensor, random: Random | None = None) -> QuantizerOutput:
        """vectors [B, maps, t, D] and ids [B, maps, t]. random: the codebook learns from x."""
        z: Tensor = self.project(self.encoder(x))
        found: QuantizerOutput = self.codebook(z.unflatten(1, (self.config.codes_per_position, -1)).movedim(2, -1), random)
        return found

    def _encode(self, x: Tensor, labels: Labels) -> Codes:
        return {"codes": self.quantize(x).ids}

    @torch.no_grad()
    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        """A sample of p(x | codes), always: what is likeliest at each step, step by step, is silence. Where no random numbers
        are given, the same ones for all sounds, which are thus a function of their codes."""
        n = len(codes["codes"])
        if isinstance(noise, Random):
            chances = noise.uniform(n, 1, 1, self.signal.samples)
        else:
            fixed = Seeded(0, "samples", device=codes["codes"].device)
            chances = fixed.uniform(1, 1, 1, self.signal.samples).expand(n, -1, -1, -1)
        with autocast_off(chances):
            told = self.condition(self.codebook.lookup(codes["codes"]))
            walk = WaveNetDecoder(self.decoder, n, self.signal.samples, self._speaker(codes), told)
            return from_mu_law(sample_ids(walk, chances, SamplingSettings()).squeeze(2), LEVELS)

    def decoder_log_likelihood(self, x: Tensor, codes: Codes) -> Tensor:
        """log p(x | codes) [B] in nats, of the levels that samples are nearest to."""
        return self.log_likelihood(x, self.codebook.lookup(codes["codes"]), self._speaker(codes))

    def log_likelihood(self, x: Tensor, vectors: Tensor, speaker: Tensor | None, random: Random | None = None) -> Tensor:
        """The same, given the codes' vectors [B, maps, t, D]. random: for what chance leaves out and adds while training."""
        ids = to_mu_law(x, LEVELS)
        read = ids if random is None else _noisy(ids, self.config.input_noise, random)
        return self.decoder.log_prob(ids, self.decoder(read, speaker, self.condition(vectors), random))

    def condition(self, vectors: Tensor) -> Tensor:
        """What the decoder is told [B, told, t] of vectors [B, maps, t, D]."""
        features: Tensor = self.condition_net(vectors.movedim(-1, 2).flatten(1, 2))
        return features

    def spectral_error(self, x: Tensor, vectors: Tensor, speaker: Tensor | None) -> Tensor:
        """The mean squared error, in units of 20 dB, of the spectrum that the codes' vectors and the speaker tell."""
        assert self.spectrum is not None
        found: Tensor = self.spectrum(self.condition(vectors), speaker)
        return (found - _frames(x, self.signal.sample_rate, BANDS, self.config.stride)).square().mean()

    def _speaker(self, labels: Codes) -> Tensor | None:
        if not self.config.num_speakers:
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
            f"({fit / signal.sample_rate:g} s), or another --model.stride"
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


class _SpectrumEncoder(nn.Module):
    """[B, 1, T] to [B, width, T / stride], by residual blocks over frames of a spectrum."""

    def __init__(self, width: int, blocks: int, stride: int, rate: int) -> None:
        super().__init__()
        self.stride, self.rate = stride, rate
        self.input = nn.Conv1d(HEARD, width, 3, padding=1)
        self.blocks = nn.Sequential(*[_Residual(width) for _ in range(blocks)])

    def forward(self, x: Tensor) -> Tensor:
        frames = _frames(x, self.rate, HEARD, self.stride)
        relative = frames - frames.amax((1, 2), keepdim=True) + 2
        out: Tensor = self.blocks(self.input(relative.clamp(min=-2)))  # 80 dB below the loudest
        return out


class _SampleEncoder(nn.Sequential):
    """[B, 1, T] to [B, width, T / stride], by convolutions of window 4 and stride 2, each centred on what it halves, over
    companded samples."""

    def __init__(self, width: int, blocks: int, stride: int) -> None:
        strides = stride.bit_length() - 1
        layers: list[nn.Module] = []
        for i in range(strides):
            layers += [nn.Conv1d(width if i else 1, width, 4, stride=2, padding=1), nn.ReLU()]
        super().__init__(*layers, *[_Residual(width) for _ in range(blocks)])

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(mu_law_compress(x))


class _Residual(nn.Sequential):
    """[B, width, t] to the same: x + conv1(relu(conv3(relu(x))))."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.ReLU(), nn.Conv1d(width, width, 3, padding=1), nn.ReLU(), nn.Conv1d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class _SpectrumHead(nn.Module):
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

    def reconstruction(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        x = batch.signals
        found = model.quantize(x, random)
        speaker = batch.labels[c.label] if c.num_speakers else None
        nats = -model.log_likelihood(x, found.vectors, speaker, random).mean() / model.signal.samples
        terms = {"nats_per_sample": nats, "commitment": c.commitment_cost * found.commitment_loss}
        if c.spectrum_weight:
            terms["spectrum"] = c.spectrum_weight * model.spectral_error(x, found.vectors, speaker)
        if c.codebook_update == "gradient":
            terms["codebook"] = found.codebook_loss
        return LossOutput(terms, {"perplexity": perplexity(model.codebook.counts)})

    return Recipe(
        phases=(Phase("reconstruction", reconstruction, (model,), ("adam",), commit=(model.codebook.commit,)),),
        optimizers={"adam": Adam(list(model.parameters()), c.learning_rate, clip=SPIKE_CLIP)},
    )
