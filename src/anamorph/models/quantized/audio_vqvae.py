"""The VQ-VAE of sounds: discrete codes of what is said, decoded by a WaveNet that is conditioned on them and on a speaker.

van den Oord, Vinyals, Kavukcuoglu 2017, "Neural Discrete Representation Learning", arXiv:1711.00937, section 4.3. Only the
decoder is conditioned on the speaker, so the same codes with another speaker are the same words in another voice.
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
"""Levels of mu-law companded samples."""
TARGET_BANDS = 40
"""Mel bands of the auxiliary spectrum that is predicted from the codes."""
INPUT_BANDS = 80
"""Mel bands of the spectrum that the encoder may read."""


@dataclass(frozen=True)
class AudioVQVAEConfig:
    """Sizes, quantiser and decoder."""

    stride: int = 64
    """Samples per code; a power of two."""
    encoder_input: Literal["samples", "spectrum"] = "samples"
    """What the encoder reads. samples: by strided convolutions, as in the paper. spectrum: a log-mel spectrum with a frame per
    code, similar to the cepstra of Chorowski et al. 2019 (arXiv:1901.08810); it is relative to its maximum, because loudness
    identifies speakers."""
    width: int = 128
    """Channels of the encoder."""
    residual_blocks: int = 2
    """Residual blocks of the encoder."""
    codes_per_position: int = 1
    """Codes at each time; each quantises a part of the features, by one codebook."""
    num_embeddings: int = 512
    """Number of codes in the codebook."""
    embedding_dim: int = 64
    """Dimension of a code's vector."""
    codebook_update: CodebookUpdate = "ema"
    """ema: the codebook is a moving average of its inputs. gradient: as in the paper."""
    commitment_cost: float = 0.25
    """Weight of the commitment loss, the mean of (z - sg(e))^2 over all values (beta)."""
    ema_decay: float = 0.99
    """ema: decay of the moving averages, per step."""
    restart_threshold: float = 0.01
    """Codes used less than this share of the mean are restarted at outputs of the encoder; 0: never, as in the paper."""
    kmeans_init: bool = True
    """Initialise the codebook by iterations of k-means."""
    decoder: WaveNetSizes = WaveNetSizes()
    """The WaveNet p(x | codes, speaker)."""
    condition_channels: int = 64
    """Channels of the features on which the decoder is conditioned."""
    spectrum_weight: float = 0.0
    """Weight of the mean squared error, in units of 20 dB, of a log-mel spectrum predicted from the decoder's condition. It
    makes codes informative before the decoder uses them; 0: none, as in the paper."""
    input_noise: float = 0.0
    """Standard deviation, in levels, of noise added to the decoder's input while training, so that it relies on the codes and
    tolerates its own errors (Jin et al. 2018, "FFTNet", section 2.3); 0: none, as in the paper."""
    mixture_components: int = 0
    """Components of a mixture of logistics over samples; 0: a logit for each of the 256 levels."""
    label: str = "speaker"
    """Name of the label that holds the speaker."""
    num_speakers: int = 0
    """Number of speakers; 0: the decoder is not conditioned on the speaker."""
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
            raise UserError(f"num_embeddings and width must be at least 2, got {self.num_embeddings} and {self.width}")
        if self.stride < 2 or self.stride & (self.stride - 1):
            raise UserError(f"stride must be a power of two and at least 2, got {self.stride}")


class AudioVQVAE(Encodes, HasDecoderLikelihood):
    """Maps sounds [B, 1, T] in [-1, 1] to codes [B, maps, T / stride] (whole numbers); codes and a speaker [B] back to sounds.

    The code at t stands for samples stride * t to stride * t + stride - 1.

    Raises: UserError for images, for sounds of several channels, and for a length that the stride does not divide.
    """

    signal: Audio
    quantity = "probability"

    def __init__(self, signal: Signal, config: AudioVQVAEConfig) -> None:
        super().__init__()
        self.signal, self.config = _checked_signal(signal, config.stride), config
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
        """Quantise the encoder's output.

        Args:
            x: sounds [B, 1, T].
            random: given while training; the codebook then gathers statistics.

        Returns: vectors [B, maps, t, D] and ids [B, maps, t].
        """
        z: Tensor = self.project(self.encoder(x))
        return self.codebook(z.unflatten(1, (self.config.codes_per_position, -1)).movedim(2, -1), random)

    def _encode(self, x: Tensor, labels: Labels) -> Codes:
        return {"codes": self.quantize(x).ids}

    @torch.no_grad()
    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        """Return a sample of p(x | codes): the likeliest value at each step would give silence.

        Without random numbers, the same fixed ones are used for all sounds, which are then a function of their codes.
        """
        n = len(codes["codes"])
        if isinstance(noise, Random):
            uniforms = noise.uniform(n, 1, 1, self.signal.samples)
        else:
            fixed = Seeded(0, "samples", device=codes["codes"].device)
            uniforms = fixed.uniform(1, 1, 1, self.signal.samples).expand(n, -1, -1, -1)
        with autocast_off(uniforms):
            condition = self.condition(self.codebook.lookup(codes["codes"]))
            decoder = WaveNetDecoder(self.decoder, n, self.signal.samples, self._speaker(codes), condition)
            return from_mu_law(sample_ids(decoder, uniforms, SamplingSettings()).squeeze(2), LEVELS)

    def decoder_log_likelihood(self, x: Tensor, codes: Codes) -> Tensor:
        """Compute log p(x | codes) [B] in nats, of the levels nearest to the samples."""
        return self.log_likelihood(x, self.codebook.lookup(codes["codes"]), self._speaker(codes))

    def log_likelihood(self, x: Tensor, vectors: Tensor, speaker: Tensor | None, random: Random | None = None) -> Tensor:
        """Compute log p(x | codes) [B] in nats.

        Args:
            x: sounds [B, 1, T].
            vectors: of the codes [B, maps, t, D].
            speaker: class of each sound [B], if the decoder is conditioned on it.
            random: given while training, for dropout and input noise.
        """
        ids = to_mu_law(x, LEVELS)
        read = ids if random is None else _noisy(ids, self.config.input_noise, random)
        return self.decoder.log_prob(ids, self.decoder(read, speaker, self.condition(vectors), random))

    def condition(self, vectors: Tensor) -> Tensor:
        """Return the features [B, condition_channels, t] on which the decoder is conditioned, for vectors [B, maps, t, D]."""
        features: Tensor = self.condition_net(vectors.movedim(-1, 2).flatten(1, 2))
        return features

    def spectral_error(self, x: Tensor, vectors: Tensor, speaker: Tensor | None) -> Tensor:
        """Compute the mean squared error, in units of 20 dB, of the spectrum predicted from vectors and speaker."""
        assert self.spectrum is not None
        predicted: Tensor = self.spectrum(self.condition(vectors), speaker)
        return (predicted - _frames(x, self.signal.sample_rate, TARGET_BANDS, self.config.stride)).square().mean()

    def _speaker(self, labels: Codes) -> Tensor | None:
        if not self.config.num_speakers:
            return None
        if self.config.label not in labels:
            raise UserError(f"decoding needs a speaker: add codes of {self.spaces[1]}")
        return labels[self.config.label]


def _checked_signal(signal: Signal, stride: int) -> Audio:
    if not isinstance(signal, Audio):
        raise UserError(f"audio_vqvae is for sounds, got images of {signal}: use vqvae")
    if signal.channels != 1:
        raise UserError(f"audio_vqvae is for sounds of one channel, got {signal.channels}: mix them down")
    if signal.samples < stride or signal.samples % stride:
        fit = max(stride, round(signal.samples / stride) * stride)
        raise UserError(
            f"a code stands for {stride} samples, which do not divide {signal.samples}: use windows of {fit} samples "
            f"({fit / signal.sample_rate:g} s), or another stride (--model.stride)"
        )
    return signal


def _noisy(ids: Tensor, levels: float, random: Random) -> Tensor:
    """Add normal noise to levels of samples; `levels` is its standard deviation."""
    if not levels:
        return ids
    return (ids + (levels * random.normal(*ids.shape)).round().to(ids.dtype)).clamp(0, LEVELS - 1)


def _frames(x: Tensor, rate: int, bands: int, stride: int) -> Tensor:
    """Return a log-mel spectrum [B, bands, T / stride] of sounds [B, 1, T], centred on each code's samples.

    It is in units of 20 dB above -40 dB.
    """
    frames = log_mel(x, rate, bands, stride)
    return (frames[:, :, :-1] + frames[:, :, 1:]) / 40 + 2


class _SpectrumEncoder(nn.Module):
    """Maps sounds [B, 1, T] to features [B, width, T / stride], by residual blocks over frames of a spectrum."""

    def __init__(self, width: int, blocks: int, stride: int, rate: int) -> None:
        super().__init__()
        self.stride, self.rate = stride, rate
        self.input = nn.Conv1d(INPUT_BANDS, width, 3, padding=1)
        self.blocks = nn.Sequential(*[_Residual(width) for _ in range(blocks)])

    def forward(self, x: Tensor) -> Tensor:
        frames = _frames(x, self.rate, INPUT_BANDS, self.stride)
        relative = frames - frames.amax((1, 2), keepdim=True) + 2
        out: Tensor = self.blocks(self.input(relative.clamp(min=-2)))  # 80 dB below the loudest
        return out


class _SampleEncoder(nn.Sequential):
    """Maps sounds [B, 1, T] to features [B, width, T / stride], by convolutions of stride 2 over companded samples."""

    def __init__(self, width: int, blocks: int, stride: int) -> None:
        strides = stride.bit_length() - 1
        layers: list[nn.Module] = []
        for i in range(strides):
            layers += [nn.Conv1d(width if i else 1, width, 4, stride=2, padding=1), nn.ReLU()]
        super().__init__(*layers, *[_Residual(width) for _ in range(blocks)])

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(mu_law_compress(x))


class _Residual(nn.Sequential):
    """A residual block on [B, width, t]: x + conv1(relu(conv3(relu(x))))."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.ReLU(), nn.Conv1d(width, width, 3, padding=1), nn.ReLU(), nn.Conv1d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class _SpectrumHead(nn.Module):
    """Predicts a spectrum [B, bands, t] from the decoder's condition [B, condition_channels, t] and the speaker [B]."""

    def __init__(self, condition_channels: int, num_speakers: int) -> None:
        super().__init__()
        self.speaker = nn.Embedding(num_speakers, condition_channels) if num_speakers else None
        self.bands = nn.Conv1d(condition_channels, TARGET_BANDS, 1)

    def forward(self, condition: Tensor, speaker: Tensor | None) -> Tensor:
        if self.speaker is not None:
            condition = condition + self.speaker(speaker).unsqueeze(2)
        out: Tensor = self.bands(condition.relu())
        return out


def recipe(model: AudioVQVAE) -> Recipe:
    """One phase, equation 3: -log p(x | codes, speaker) per sample, the commitment loss and any codebook loss."""
    c = model.config

    def reconstruction(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        x = batch.signals
        quantized = model.quantize(x, random)
        speaker = batch.labels[c.label] if c.num_speakers else None
        nats = -model.log_likelihood(x, quantized.vectors, speaker, random).mean() / model.signal.samples
        terms = {"nats_per_sample": nats, "commitment": c.commitment_cost * quantized.commitment_loss}
        if c.spectrum_weight:
            terms["spectrum"] = c.spectrum_weight * model.spectral_error(x, quantized.vectors, speaker)
        if c.codebook_update == "gradient":
            terms["codebook"] = quantized.codebook_loss
        return LossOutput(terms, {"perplexity": perplexity(model.codebook.counts)})

    return Recipe(
        phases=(Phase("reconstruction", reconstruction, (model,), ("adam",), commit=(model.codebook.commit,)),),
        optimizers={"adam": Adam(list(model.parameters()), c.learning_rate, clip=SPIKE_CLIP)},
    )
