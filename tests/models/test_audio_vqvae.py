"""The audio VQ-VAE: the samples of a code, speakers, likelihoods, and its prior."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch

from anamorph.catalog import build, build_with_prior
from anamorph.core.errors import UserError
from anamorph.core.labels import add_labels
from anamorph.core.model import Encodes, HasLikelihood, UnsupportedOperation, code_space, code_spaces, require
from anamorph.core.random import Seeded
from anamorph.core.signal import Audio, Batch, Image
from anamorph.core.space import Codes
from anamorph.core.stage import Constant, Stage
from anamorph.models.autoregressive.wavenet import WaveNetConfig
from anamorph.models.quantized.audio_vqvae import AudioVQVAE, AudioVQVAEConfig
from anamorph.nn.value_ranges import from_mu_law, to_mu_law
from anamorph.nn.wavenet_decoder import WaveNetDecoder
from anamorph.nn.wavenet_layers import WaveNetSizes
from anamorph.training.loop import train
from anamorph.training.run import ComputeSettings, Run
from cases import DILATED, SOUND, Case

SMALL_CASES = {
    "audio_vqvae": Case(
        "audio_vqvae",
        AudioVQVAEConfig(
            stride=8,
            width=6,
            residual_blocks=1,
            codes_per_position=2,
            num_embeddings=11,
            embedding_dim=3,
            decoder=DILATED,
            condition_channels=4,
            label="class",
            num_speakers=2,
        ),
        signal=SOUND,
        random_loss=False,
        ties=True,
    ),
    "audio_vqvae-mixture": Case(
        "audio_vqvae",
        AudioVQVAEConfig(
            stride=4,
            encoder_input="spectrum",
            width=6,
            residual_blocks=0,
            num_embeddings=11,
            embedding_dim=3,
            codebook_update="gradient",
            decoder=DILATED,
            condition_channels=4,
            spectrum_weight=1.0,
            input_noise=2.0,
            mixture_components=3,
        ),
        signal=SOUND,
        ties=True,
    ),
}


SOUND = Audio(1, 192, 8000)
DECODER = WaveNetSizes(layers=4, dilation_cycle=4, residual_channels=6, gate_channels=5, skip_channels=7, head_channels=8)
CONFIG = AudioVQVAEConfig(
    stride=32,
    width=6,
    residual_blocks=1,
    num_embeddings=11,
    embedding_dim=3,
    decoder=DECODER,
    condition_channels=4,
    num_speakers=3,
    kmeans_init=False,
)
PRIOR = WaveNetConfig(network=DECODER)


def small(config: AudioVQVAEConfig = CONFIG) -> AudioVQVAE:
    model, _ = build("audio_vqvae", SOUND, config, 0)
    assert isinstance(model, AudioVQVAE)
    return model.eval()


def sounds(n: int = 4) -> torch.Tensor:
    return torch.rand(n, *SOUND.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_a_code_stands_for_64_samples_by_default() -> None:
    model = AudioVQVAE(Audio(1, 640, 8000), AudioVQVAEConfig())
    assert [str(space) for space in model.spaces] == ["codes [1, 10] 0..511"]
    assert model.encode(torch.zeros(1, 1, 640))["codes"].shape == (1, 1, 10)


def test_the_encoders_receptive_field_is_centred_on_the_samples_of_a_code() -> None:
    model = small(AudioVQVAEConfig(stride=32, width=6, residual_blocks=0, embedding_dim=3, decoder=DECODER))
    x = sounds(1).requires_grad_()
    for t in range(1, 5):
        (slope,) = torch.autograd.grad(model.project(model.encoder(x))[0, :, t].sum(), x)
        inputs = slope[0, 0].nonzero().flatten()
        before, after = 32 * t - int(inputs[0]), int(inputs[-1]) - (32 * t + 31)
        assert before == after == 31


def test_the_receptive_field_of_an_encoder_of_spectra_is_centred_on_the_samples_of_a_code() -> None:
    """A frame is of 256 samples; the encoder reads means of two frames, at three codes, and the loudest value of the sound."""
    sound = Audio(1, 1024, 8000)
    config = AudioVQVAEConfig(stride=32, encoder_input="spectrum", width=6, residual_blocks=0, embedding_dim=3, decoder=DECODER)
    model, _ = build("audio_vqvae", sound, config, 0)
    assert isinstance(model, AudioVQVAE)
    x = torch.rand(1, 1, 1024, generator=torch.Generator().manual_seed(1)) / 10
    x[..., :32] *= 10
    (slope,) = torch.autograd.grad(model.project(model.encoder(x.requires_grad_()))[0, :, 15].sum(), x)
    inputs = slope[0, 0].nonzero().flatten()
    inputs = inputs[inputs > 32 + 128]
    assert 32 * 15 - int(inputs[0]) <= 128 + 32
    assert int(inputs[-1]) - (32 * 15 + 31) <= 128 + 32
    assert abs((int(inputs[0]) + int(inputs[-1])) / 2 - (32 * 15 + 15.5)) <= 1
    assert len(inputs) > 256


@torch.no_grad()
def test_the_decoder_is_conditioned_on_codes_and_causal_in_samples() -> None:
    """Two convolutions of three frames each: a code influences two frames on either side."""
    model, x = small(), sounds(1)
    ids = to_mu_law(x)
    vectors = model.codebook.lookup(torch.randint(11, (1, 1, 6), generator=torch.Generator().manual_seed(2)))
    speaker = torch.zeros(1, dtype=torch.long)
    before = model.decoder(ids, speaker, model.condition(vectors))
    other = vectors.clone()
    other[:, :, 3] += 1
    changed = (model.decoder(ids, speaker, model.condition(other)) != before).any(-1)[0, 0].nonzero().flatten()
    assert int(changed[0]) == 32 * (3 - 2)
    louder = x.clone()
    louder[..., 100] = 0.9 if x[..., 100] < 0 else -0.9
    changed = (model.decoder(to_mu_law(louder), speaker, model.condition(vectors)) != before).any(-1)[0, 0].nonzero().flatten()
    assert int(changed[0]) == 101


@torch.no_grad()
def test_another_speaker_with_the_same_codes_is_another_sound() -> None:
    model = small()
    assert model.decoder.stack.label is not None
    model.decoder.stack.label.weight.mul_(10)  # so that voices differ before training
    codes = model.encode(sounds())
    assert list(codes) == ["codes"]
    with pytest.raises(UserError, match=r"codes lack the space speaker \[\] 0\.\.2"):
        model.decode(codes)
    with pytest.raises(UserError, match="decodes 'speaker', which the data does not give"):
        add_labels(model, codes, {"digit": torch.zeros(4)}, "the data")
    spoken = [model.decode(add_labels(model, codes, {"speaker": torch.full((4,), who)}, "the data")) for who in (0, 0, 2)]
    assert torch.equal(spoken[0], spoken[1])
    assert not torch.equal(spoken[0], spoken[2])
    kept = add_labels(model, {**codes, "speaker": torch.ones(4)}, {"speaker": torch.zeros(4)}, "the data")
    assert torch.equal(kept["speaker"], torch.ones(4))
    assert model.classes == {"speaker": 3}
    assert code_space(model).name == "codes"
    assert code_spaces(model) == model.spaces[:1]


@torch.no_grad()
def test_decoding_samples_with_fixed_or_given_random_numbers() -> None:
    model = small()
    codes = {"codes": torch.randint(11, (2, 1, 6)), "speaker": torch.tensor([0, 1])}
    first, again, sampled = model.decode(codes), model.decode(codes), model.decode(codes, Seeded(1, "noise"))
    assert torch.equal(first, again)
    assert torch.equal(sampled, model.decode(codes, Seeded(1, "noise")))
    assert not torch.equal(first, sampled)
    assert first.abs().max() <= 1
    torch.testing.assert_close(from_mu_law(to_mu_law(first)), first)  # one of the 256 levels
    assert len(first.unique()) > 50


@torch.no_grad()
def test_an_encoder_of_spectra_is_invariant_to_loudness() -> None:
    model = small(replace(CONFIG, encoder_input="spectrum"))
    x = sounds()
    loud, soft = model.project(model.encoder(x)), model.project(model.encoder(0.1 * x))
    torch.testing.assert_close(loud, soft, atol=1e-4, rtol=1e-4)
    assert torch.isfinite(model.encoder(torch.zeros(1, 1, 192))).all()


@torch.no_grad()
def test_input_noise_is_added_to_the_decoders_input_but_not_to_its_target() -> None:
    x, speaker = sounds(), torch.zeros(4, dtype=torch.long)
    quiet, noisy = small(), small(replace(CONFIG, input_noise=3.0))
    vectors = quiet.codebook.lookup(quiet.encode(x)["codes"])
    expected = quiet.log_likelihood(x, vectors, speaker)
    assert torch.equal(quiet.log_likelihood(x, vectors, speaker, Seeded(0, "noise")), expected)
    assert torch.equal(noisy.log_likelihood(x, vectors, speaker), expected)
    found = noisy.log_likelihood(x, vectors, speaker, Seeded(0, "noise"))
    assert not torch.equal(found, expected)
    before = quiet.decoder.log_prob(to_mu_law(x), quiet.decoder(to_mu_law(x), speaker, quiet.condition(vectors)))
    torch.testing.assert_close(before, expected)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0)  # samples are about as likely after a slightly noisy past


@torch.no_grad()
@pytest.mark.parametrize("components", [0, 3])
def test_the_log_likelihood_is_that_of_incremental_decoding(components: int) -> None:
    """log p(x | codes), computed sample by sample, is that of the whole sound at once."""
    model = small(AudioVQVAEConfig(**{**CONFIG.__dict__, "mixture_components": components}))
    x, speaker = sounds(2), torch.tensor([2, 0])
    codes: Codes = {**model.encode(x), "speaker": speaker}
    ids = to_mu_law(x)
    decoder = WaveNetDecoder(model.decoder, 2, 192, speaker, model.condition(model.codebook.lookup(codes["codes"])))
    decoder.row(0)
    total = torch.zeros(2)
    for t in range(192):
        each = decoder.logits(0, t, ids[:, :, t])[:, 0].log_softmax(-1)
        total += each.gather(1, ids[:, :, t])[:, 0]
        decoder.put(0, t, ids[:, :, t])
    torch.testing.assert_close(model.decoder_log_likelihood(x, codes), total, rtol=1e-4, atol=1e-2)


def test_signals_that_do_not_fit_are_refused() -> None:
    for signal, message in (
        (Audio(1, 200, 8000), r"32 samples, which do not divide 200: use windows of 192 samples \(0\.024 s\)"),
        (Audio(1, 20, 8000), r"use windows of 32 samples"),
        (Audio(2, 192, 8000), r"one channel, got 2: mix them down"),
        (Image(1, 32, 32), r"for sounds, got images of 32x32 .*: use vqvae"),
    ):
        with pytest.raises(UserError, match=message):
            AudioVQVAE(signal, CONFIG)
    with pytest.raises(UserError, match=r"vqvae is for images, got sounds of .*: choose one of .*audio_vqvae"):
        build("vqvae", SOUND, None, 0)
    with pytest.raises(UserError, match=r"audio_vqvae is for sounds, got images of 32x32 .*: choose one of alae, .*vqvae"):
        build("audio_vqvae", Image(1, 32, 32), CONFIG, 0)
    with pytest.raises(UserError, match=r"pixelcnn is for images, got sounds of .*: choose one of .*wavenet"):
        build_with_prior("pixelcnn", small(), None, 0)
    for wrong in ({"stride": 48}, {"num_embeddings": 1}, {"learning_rate": 0.0}, {"num_speakers": -1}, {"input_noise": -1.0}):
        with pytest.raises(UserError):
            AudioVQVAEConfig(**wrong)


@torch.no_grad()
def test_with_a_prior_it_samples_sounds_of_speakers_and_has_a_likelihood() -> None:
    prior = WaveNetConfig(network=DECODER, num_classes=10, label="digit")
    model, recipe = build_with_prior("wavenet", small(), prior, 0)
    assert model.classes == {"digit": 10, "speaker": 3}
    labels = {"digit": torch.tensor([3, 4]), "speaker": torch.tensor([1, 2])}
    codes = model.sample_codes(2, Seeded(0, "draw"), labels)
    assert torch.equal(codes["speaker"], labels["speaker"])
    assert model.decode(codes).shape == (2, 1, 192)
    free = model.sample_codes(64, Seeded(0, "draw"))
    assert set(free["speaker"].tolist()) == {0, 1, 2}
    with pytest.raises(UserError, match=r"0\.\.2"):
        model.sample_codes(2, Seeded(0, "draw"), {"speaker": torch.tensor([0, 3])})
    x = sounds(2)
    with_likelihood = require(model, HasLikelihood, "a likelihood")
    found = with_likelihood.log_prob(x, labels)
    assert found.kind == "bound"
    first = require(model.first_stage, Encodes, "codes")
    torch.testing.assert_close(found.terms["prior"], model.code_log_prob(first.encode(x), labels))
    with pytest.raises(UserError, match="decodes 'speaker', which the data does not give"):
        with_likelihood.log_prob(x, {"digit": labels["digit"]})
    (phase,) = recipe.phases
    outcome = phase.loss(Batch(x, labels), Stage(0, 2), Seeded(0, "loss"))
    torch.testing.assert_close(outcome.metrics["nats"], -found.terms["prior"].mean())


def test_the_prior_may_be_conditioned_on_the_speaker_too() -> None:
    model, _ = build_with_prior("wavenet", small(), WaveNetConfig(network=DECODER, num_classes=3, label="speaker"), 0)
    assert model.classes == {"speaker": 3}
    codes = model.sample_codes(2, Seeded(0, "draw"), {"speaker": torch.tensor([1, 2])})
    assert codes["speaker"].tolist() == [1, 2]
    with pytest.raises(UnsupportedOperation):
        require(small(), HasLikelihood, "a likelihood")


class Tones:
    """A source of high and low tones."""

    signal, size, labels, fingerprint = SOUND, 64, (), "tones"

    def take(self, start: int, count: int, level: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(start)
        pitch = torch.where(torch.rand(count, 1, 1, generator=generator) < 0.5, 250.0, 800.0)
        phase = torch.rand(count, 1, 1, generator=generator) * 6.28
        return Batch(0.5 * torch.sin(torch.arange(192) / 8000 * 6.2832 * pitch + phase))


@pytest.mark.parametrize(("encoder_input", "spectrum"), [("samples", 0.0), ("samples", 1.0), ("spectrum", 1.0)])
def test_it_learns_tones(encoder_input: Literal["samples", "spectrum"], spectrum: float) -> None:
    decoder = WaveNetSizes(
        layers=4, dilation_cycle=4, residual_channels=16, gate_channels=16, skip_channels=24, head_channels=24
    )
    config = AudioVQVAEConfig(
        stride=32,
        encoder_input=encoder_input,
        width=16,
        residual_blocks=1,
        num_embeddings=16,
        embedding_dim=8,
        decoder=decoder,
        condition_channels=8,
        learning_rate=0.01,
        spectrum_weight=spectrum,
    )
    model, recipe = build("audio_vqvae", SOUND, config, 0)
    assert isinstance(model, AudioVQVAE)
    assert (model.spectrum is None) == (spectrum == 0)
    before = after = 0.0
    errors: list[float] = []
    for tick in train(Run(model, recipe, Constant(8), 0, ComputeSettings()), Tones()):
        before = before or tick.losses["reconstruction/nats_per_sample"]
        after = tick.losses["reconstruction/nats_per_sample"]
        errors += [tick.losses["reconstruction/spectrum"]] if spectrum else []
        if tick.step == 40:
            break
    assert after < before - 1
    if errors:
        assert errors[-1] < errors[0] / 2


@torch.no_grad()
def test_the_spectrum_is_aligned_with_the_codes() -> None:
    """A sound during one of six codes: predicting silence everywhere is wrong."""
    model = small(replace(CONFIG, spectrum_weight=1.0))
    x = torch.zeros(1, 1, 192)
    x[..., 96:128] = torch.sin(torch.arange(32) / 8000 * 6.2832 * 1000)
    assert model.spectrum is not None
    for parameter in model.spectrum.parameters():
        parameter.data.zero_()
    vectors, speaker = torch.zeros(1, 1, 6, 3), torch.zeros(1, dtype=torch.long)
    assert model.spectrum.bands.bias is not None
    model.spectrum.bands.bias.data.fill_(-3)  # silence: -100 dB
    assert float(model.spectral_error(torch.zeros(1, 1, 192), vectors, speaker)) == 0
    assert float(model.spectral_error(x, vectors, speaker)) > 0.5


@torch.no_grad()
def test_a_spectrum_needs_no_speakers() -> None:
    model = small(replace(CONFIG, spectrum_weight=1.0, num_speakers=0))
    assert float(model.spectral_error(sounds(), torch.zeros(4, 1, 6, 3), None)) > 0


@pytest.mark.slow
def test_after_a_few_hundred_sounds_the_averaged_weights_have_learned_too() -> None:
    """Runs are loaded with averaged weights; with a half-life of 10,000 from the start, these would hardly have moved."""
    decoder = WaveNetSizes(
        layers=4, dilation_cycle=4, residual_channels=16, gate_channels=16, skip_channels=24, head_channels=24
    )
    config = AudioVQVAEConfig(
        stride=32,
        width=16,
        residual_blocks=1,
        num_embeddings=16,
        embedding_dim=8,
        decoder=decoder,
        condition_channels=8,
        learning_rate=0.01,
    )
    model, recipe = build("audio_vqvae", SOUND, config, 0)
    run = Run(model, recipe, Constant(64), 0, ComputeSettings())
    x = Tones().take(0, 64).signals

    @torch.no_grad()
    def nats(net: torch.nn.Module) -> float:
        assert isinstance(net, AudioVQVAE)
        return -float(net.decoder_log_likelihood(x, net.encode(x)).mean()) / 192

    before = nats(run.ema.model)
    for tick in train(run, Tones()):
        if tick.step == 60:
            break
    own, average = nats(run.model), nats(run.ema.model)
    assert before - average > 0.5 * (before - own) > 0.5
