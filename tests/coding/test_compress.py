"""What is decompressed is the model's reconstruction, bit for bit, whatever the model, the image and its company."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from anamorph.catalog import build, build_with_prior
from anamorph.coding.compress import compress, decompress, reconstruct
from anamorph.coding.container import pack, unpack
from anamorph.coding.lockstep import LANES, distributions_of, fixed_arithmetic
from anamorph.coding.model_identity import fingerprint
from anamorph.core.errors import UserError
from anamorph.core.model import Encodes, Labels, Noise
from anamorph.core.prior import Prior, SamplingOptions
from anamorph.core.random import Random
from anamorph.core.signal import Audio, Image
from anamorph.core.space import Codes, Space
from anamorph.data.images import to_signal
from anamorph.figures.grid import as_picture
from anamorph.models.autoencoders.vae import VAEConfig
from anamorph.models.autoregressive.common import Autoregressive
from anamorph.models.autoregressive.pixelcnn import PixelCNNConfig
from anamorph.models.autoregressive.pixelsnail import PixelSNAILConfig
from anamorph.models.quantized.vqvae import VQVAEConfig
from anamorph.models.quantized.vqvae2 import VQVAE2Config
from anamorph.models.two_stage import Pixels, TwoStageModel, two_stage
from anamorph.nn.incremental import IncrementalDecoder

IMAGE = Image(3, 8, 16)
ONE = VQVAEConfig(stride=2, width=6, residual_blocks=1, residual_channels=5, num_embeddings=11, embedding_dim=3)
CNN = PixelCNNConfig(width=12, layers=2, first_kernel_size=5, head_channels=12, condition_channels=4)
SNAIL = PixelSNAILConfig(
    width=8,
    residual_channels=6,
    kernel_size=3,
    blocks=2,
    residual_blocks=1,
    attention_heads=2,
    condition_channels=4,
    condition_blocks=1,
)
MODELS: dict[str, Callable[[], TwoStageModel]] = {
    "vqvae, pixelcnn": lambda: made("vqvae", ONE, "pixelcnn", CNN),
    "vqvae, pixelsnail": lambda: made("vqvae", ONE, "pixelsnail", SNAIL),
    "maps, classes": lambda: made("vqvae", replace(ONE, codes_per_position=3), "pixelcnn", replace(CNN, num_classes=4)),
    "scalar, pixelsnail, classes": lambda: made(
        "vqvae", replace(ONE, quantizer="scalar", fsq_levels=(5, 3)), "pixelsnail", replace(SNAIL, num_classes=4)
    ),
    "vqvae2, pixelcnn": lambda: made(
        "vqvae2",
        VQVAE2Config(width=8, residual_blocks=1, residual_channels=5, num_embeddings=7, embedding_dim=3),
        "pixelcnn",
        CNN,
    ),
    "vqvae2, pixelsnail": lambda: made(
        "vqvae2",
        VQVAE2Config(width=8, residual_blocks=1, residual_channels=5, num_embeddings=7, embedding_dim=3),
        "pixelsnail",
        SNAIL,
    ),
}
EVERY = pytest.mark.parametrize("name", MODELS)


def made(first: str, config: object, distribution: str, prior: object) -> TwoStageModel:
    """With weights that say something: at the beginning, many are zero."""
    stage, _ = build(first, IMAGE, config, 0)
    assert isinstance(stage, Encodes)
    model, _ = build_with_prior(distribution, stage, prior, 1)
    return stirred(model)


def stirred(model: TwoStageModel) -> TwoStageModel:
    generator = torch.Generator().manual_seed(2)
    for parameter in model.prior.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model.requires_grad_(False).eval()


def images(n: int, seed: int = 0, signal: Image = IMAGE) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return to_signal(torch.randint(0, 256, (n, *signal.shape), generator=generator).byte().numpy())


def classes(model: TwoStageModel, n: int) -> Mapping[str, Tensor]:
    return {space.name: torch.arange(n) * 3 % (space.num_codes or 1) for space in model.prior.conditions}


def alone(model: TwoStageModel, x: Tensor) -> Tensor:
    """The model's own reconstruction of each."""
    with torch.no_grad():
        return torch.cat([model.decode(model.encode(one), "fixed") for one in x.split(1)])


def as_written(x: Tensor) -> Tensor:
    """The bytes of picture files."""
    return torch.from_numpy(np.stack([np.asarray(as_picture(one)) for one in x]))


@EVERY
@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 2**31), n=st.integers(1, LANES + 3), together=st.booleans())
def test_what_comes_back_is_the_reconstruction(name: str, seed: int, n: int, together: bool) -> None:
    model = MODELS[name]()
    x, labels = images(n, seed), classes(model, n)
    files = compress(model, x, labels, joint=together)
    assert len(files) == (1 if together else n)
    found = decompress(model, files)
    assert torch.equal(torch.cat([part.signals for part in found]), alone(model, x))
    assert torch.equal(reconstruct(model, x, labels), alone(model, x))
    for key, value in labels.items():
        assert torch.equal(torch.cat([part.labels[key] for part in found]), value)


@EVERY
def test_a_file_is_the_same_whatever_else_is_compressed(name: str) -> None:
    """Alone, among forty, and in another order; and it is read alone or with others."""
    model = MODELS[name]()
    x, labels = images(40), classes(model, 40)
    files = compress(model, x, labels)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert compress(model, x[order], {key: v[order] for key, v in labels.items()}) == [files[i] for i in order]
    wanted = alone(model, x)
    for i in (0, 23, 39):
        one = slice(i, i + 1)
        assert compress(model, x[one], {key: v[one] for key, v in labels.items()}) == [files[i]]
        assert torch.equal(decompress(model, [files[i]])[0].signals, wanted[one])
    mixed = [files[5], *compress(model, x[:20], {key: v[:20] for key, v in labels.items()}, joint=True), files[6]]
    found = [part.signals for part in decompress(model, mixed)]
    assert torch.equal(torch.cat(found), torch.cat([wanted[5:6], wanted[:20], wanted[6:7]]))


@EVERY
def test_payloads_are_as_long_as_the_prior_says(name: str) -> None:
    model = MODELS[name]()
    x, labels = images(40), classes(model, 40)
    ideal = -model.code_log_prob(model.encode(x), labels) / torch.log(torch.tensor(2.0))
    (whole,) = compress(model, x, labels, joint=True)
    assert abs(8 * len(unpack(whole).payload) / float(ideal.sum()) - 1) < 0.002
    for file, bits in zip(compress(model, x, labels), ideal.tolist(), strict=True):
        assert 8 * len(unpack(file).payload) <= bits + 9


@pytest.mark.parametrize("prior", ["pixelcnn", "pixelsnail"])
def test_pixels_come_back_exactly(prior: str) -> None:
    """Lossless, for each of the 256 values of a pixel."""
    signal = Image(1 if prior == "pixelsnail" else 3, 4, 6)
    model, _ = build_with_prior(prior, Pixels(signal), CNN if prior == "pixelcnn" else SNAIL, 0)
    stirred(model)
    values = torch.arange(256).byte().view(-1, 1, 1, 1).expand(-1, *signal.shape).contiguous()
    every_value = to_signal(values.numpy())
    assert torch.equal(as_written(model.decode(model.encode(every_value))), as_written(every_value))
    assert torch.equal(model.encode(every_value)["pixels"], values.long())
    x = images(20, 3, signal)
    for together in (False, True):
        files = compress(model, x, joint=together)
        found = torch.cat([part.signals for part in decompress(model, files)])
        assert torch.equal(found, alone(model, x))
        assert torch.equal(as_written(found), as_written(x))


def test_files_of_other_weights_settings_or_signals_are_refused() -> None:
    model = MODELS["vqvae, pixelcnn"]()
    (file,) = compress(model, images(1))
    others = [copy.deepcopy(model) for _ in range(2)]
    next(others[0].prior.parameters()).data[0] += 1e-6
    next(others[1].first_stage.parameters()).data[0] += 1e-6
    heads = made("vqvae", ONE, "pixelsnail", SNAIL), made("vqvae", ONE, "pixelsnail", replace(SNAIL, attention_heads=1))
    heads[1].load_state_dict(heads[0].state_dict())
    assert fingerprint(heads[0]) != fingerprint(heads[1])
    for other in (*others, *heads):
        with pytest.raises(UserError, match=r"cat.anam was compressed by another model, or by this one with other weights"):
            decompress(other, [file], ["cat.anam"])
    assert fingerprint(copy.deepcopy(model)) == fingerprint(model)


def test_every_altered_byte_is_refused() -> None:
    model = MODELS["maps, classes"]()
    (file,) = compress(model, images(1), {"class": torch.tensor([2])})
    for place in range(len(file)):
        altered = bytearray(file)
        altered[place] ^= 1 + place % 255
        with pytest.raises(UserError):
            decompress(model, [bytes(altered)])


def test_another_payload_lane_or_label_is_refused_even_under_a_true_checksum() -> None:
    """As if another arithmetic had been at work: the codes that come out are not those that went in."""
    model = MODELS["maps, classes"]()
    (file,) = compress(model, images(1), {"class": torch.tensor([2])})
    packed = unpack(file)
    other = [replace(packed, payload=bytes([packed.payload[0] ^ 64]) + packed.payload[1:]), replace(packed, labels=((1,),))]
    other += [replace(packed, payload=packed.payload[:-2]), replace(packed, check=packed.check ^ 1)]
    for one in other:
        with pytest.raises(UserError, match="compressed by another arithmetic"):
            decompress(model, [pack(one)])
    wrong = [replace(packed, labels=((4,),)), replace(packed, labels=()), replace(packed, lane=LANES)]
    wrong += [replace(packed, signal=Image(3, 8, 8)), replace(packed, count=2, labels=((2,), (2,)), lane=1)]
    for one in wrong:
        with pytest.raises(UserError, match="a header that does not fit its model"):
            decompress(model, [pack(one)])


def test_the_arithmetic_is_that_of_one_thread_and_afterwards_as_before() -> None:
    torch.set_num_threads(2)
    with fixed_arithmetic():
        assert torch.get_num_threads() == 1
        assert not torch.is_grad_enabled()
    assert torch.get_num_threads() == 2
    model = MODELS["vqvae, pixelcnn"]()
    x = images(2)
    files, found = compress(model, x), reconstruct(model, x)
    torch.set_num_threads(1)
    wanted = alone(model, x)
    assert torch.equal(found, wanted)
    with torch.autocast("cpu", torch.bfloat16):
        assert compress(model, x) == files
        assert torch.equal(decompress(model, files)[1].signals, wanted[1:])


def test_what_cannot_be_compressed_is_named() -> None:
    model = MODELS["maps, classes"]()
    with pytest.raises(UserError, match=r"compresses signals \[n, 3, 8, 16\], got \[1, 3, 8, 8\]"):
        compress(model, torch.zeros(1, 3, 8, 8))
    with pytest.raises(UserError, match="or --label class=NAME"):
        compress(model, images(1))
    with pytest.raises(UserError, match="whole numbers 0..3"):
        compress(model, images(1), {"class": torch.tensor([4])})
    with pytest.raises(UserError, match="of another number"):
        compress(model, images(2), {"class": torch.tensor([1])})
    for name, config in (("vqvae", ONE), ("vae", VAEConfig(z_dim=3, widths=(8,)))):
        with pytest.raises(UserError, match="has none: train one"):
            compress(build(name, IMAGE, config, 0)[0], images(1))
    with pytest.raises(UserError, match="in float32 on the CPU, got torch.float64"):
        compress(MODELS["vqvae, pixelcnn"]().double(), images(1))


def test_the_sizes_that_images_had_are_told() -> None:
    model = MODELS["vqvae, pixelcnn"]()
    files = compress(model, images(2), originals=[(480, 640), (8, 16)])
    assert [part.originals for part in decompress(model, files)] == [((480, 640),), ((8, 16),)]
    assert decompress(model, compress(model, images(1)))[0].originals == ()


def test_progress_is_of_places_and_rounds() -> None:
    model, calls = MODELS["vqvae2, pixelcnn"](), []
    compress(model, images(20), joint=True, progress=lambda done, total: calls.append((done, total)))
    assert calls[0][0] == 1
    assert calls[-1][0] == calls[-1][1] == len(calls)
    assert len(calls) % 2 == 0


class Spoken(Encodes):
    """Sound as a loudness per window, which the speaker scales back."""

    def __init__(self) -> None:
        super().__init__()
        self.signal = Audio(1, 24, 8000)
        self.spaces = (Space("codes", (2, 6), 5), Space("speaker", (), 3, optional=True))

    def _encode(self, x: Tensor, labels: Labels) -> Codes:
        windows = x.unflatten(2, (6, 4))
        return {"codes": torch.cat([windows.amax(3), -windows.amin(3)], 1).mul(4).round().clamp(0, 4).long()}

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        high, low = codes["codes"].float().unbind(1)
        waves = torch.stack([high, -low, high, -low], -1) / 4
        return waves.flatten(1).unsqueeze(1) / (1 + codes["speaker"].view(-1, 1, 1))


class Markov(Autoregressive):
    """Each code from the one before it in time, the first map at its place, and the speaker."""

    def __init__(self, space: Space, given: Space) -> None:
        super().__init__()
        self.space, self.spaces, self.conditions = space, (space,), (given,)
        self.table = nn.Parameter(torch.randn(2, 3, 6, 6, 5))

    def logits(self, ids: Tensor, condition: Codes, random: Random | None = None) -> Tensor:
        walk, found = self.decoder(len(ids), condition), []
        for t in range(ids.shape[2]):
            found.append(walk.logits(0, t, ids[:, :, t]))
            walk.put(0, t, ids[:, :, t])
        return torch.stack(found, 2)

    def decoder(self, n: int, condition: Codes) -> IncrementalDecoder:
        return _Step(self.table, condition["speaker"])


class _Step:
    def __init__(self, table: Tensor, speaker: Tensor) -> None:
        self.table, self.speaker, self.before = table, speaker, torch.full_like(speaker, 5)

    def row(self, r: int) -> None:
        assert r == 0

    def logits(self, r: int, c: int, known: Tensor) -> Tensor:
        nothing = torch.full_like(self.speaker, 5)
        return torch.stack(
            [self.table[m, self.speaker, self.before, first] for m, first in enumerate((nothing, known[:, 0]))], 1
        )

    def put(self, r: int, c: int, ids: Tensor) -> None:
        self.before = ids[:, 1]


def test_codes_of_sound_are_one_row_and_labels_that_a_decoder_reads_are_told() -> None:
    first = Spoken()
    model = TwoStageModel(first, Markov(first.spaces[0], Space("speaker", (), 3, role="label"))).requires_grad_(False).eval()
    x = torch.rand(20, 1, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    speaker = torch.arange(20) % 3
    wanted = first.decode(first.encode(x) | {"speaker": speaker})
    ideal = -model.code_log_prob(first.encode(x), {"speaker": speaker}).sum() / torch.log(torch.tensor(2.0))
    for together in (False, True):
        files = compress(model, x, {"speaker": speaker}, joint=together)
        assert unpack(files[0]).signal == Audio(1, 24, 8000)
        assert torch.equal(torch.cat([part.signals for part in decompress(model, files)]), wanted)
    assert abs(8 * len(unpack(files[0]).payload) - float(ideal)) < 9


def test_a_prior_that_goes_not_from_code_to_code_is_refused() -> None:
    class Even(Prior):
        spaces = MODELS["vqvae, pixelcnn"]().prior.spaces

        def log_prob(self, codes: Codes, condition: Codes | None = None, random: Random | None = None) -> Tensor:
            (space,) = self.spaces
            return -codes[space.name].flatten(1).shape[1] * torch.full((len(codes[space.name]),), space.num_codes or 1).log()

        def _sample(self, n: int, random: Random, condition: Codes, options: SamplingOptions) -> Codes:
            return {space.name: random.integers(0, space.num_codes or 1, (n, *space.shape)) for space in self.spaces}

    stage, _ = build("vqvae", IMAGE, ONE, 0)
    assert isinstance(stage, Encodes)
    with pytest.raises(UserError, match="got Even"):
        distributions_of(two_stage(stage, Even()))
