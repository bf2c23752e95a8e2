"""One suite for all priors: they do not look ahead, sum to one, and draw position by position what they compute at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from anamorph.core.errors import UserError
from anamorph.core.model import HasLikelihood
from anamorph.core.prior import InpaintingMask, SamplingSettings
from anamorph.core.random import Seeded
from anamorph.core.signal import Audio, Image
from anamorph.core.space import Codes, Space
from anamorph.models.autoregressive.common import Autoregressive
from anamorph.models.autoregressive.pixelcnn import PixelCNN, PixelCNNConfig
from anamorph.models.autoregressive.pixelsnail import PixelSNAIL, PixelSNAILConfig
from anamorph.models.autoregressive.wavenet import WaveNet, WaveNetConfig
from anamorph.models.two_stage import ChainedPrior, MuLaw, Pixels, two_stage
from anamorph.nn.incremental import sample_from_logits
from anamorph.nn.wavenet_layers import WaveNetSizes

GRID, MAPS, TOP = Space("codes", (1, 4, 6), 5), Space("codes", (3, 4, 6), 5), Space("top", (1, 2, 3), 4)
SEQUENCE, TRACKS, FRAMES = Space("codes", (24,), 5), Space("codes", (3, 16), 5), Space("top", (2, 4), 4)
KIND = Space("kind", (), 3, role="label")
CNN = PixelCNNConfig(width=6, layers=3, first_kernel_size=5, head_channels=9, condition_channels=4, dropout=0.3)
SNAIL = PixelSNAILConfig(
    width=16,
    residual_channels=6,
    blocks=2,
    residual_blocks=1,
    output_blocks=1,
    attention_heads=2,
    condition_channels=4,
    condition_blocks=1,
)
WAVE = WaveNetConfig(
    network=WaveNetSizes(
        layers=5,
        dilation_cycle=3,
        kernel_size=3,
        residual_channels=6,
        gate_channels=5,
        skip_channels=7,
        head_channels=8,
        dropout=0.3,
        weight_norm=True,
    ),
    condition_channels=4,
)
PLAIN_WAVE = WaveNetConfig(
    network=WaveNetSizes(
        layers=8,
        dilation_cycle=4,
        residual_channels=6,
        gate_channels=5,
        skip_channels=7,
        head_channels=8,
        dropout=0.3,
        scale_sums=False,
    )
)
CONVOLVES = PixelSNAILConfig(
    width=8, residual_channels=6, kernel_size=3, blocks=2, residual_blocks=2, attention_max_positions=0
)
PRIORS: dict[str, Callable[[], Autoregressive]] = {
    "pixelcnn": lambda: PixelCNN([GRID], [], CNN),
    "pixelcnn-maps": lambda: PixelCNN([MAPS], [], CNN),
    "pixelcnn-conditioned": lambda: PixelCNN([MAPS], [KIND, TOP], CNN),
    "pixelsnail": lambda: PixelSNAIL([GRID], [], SNAIL),
    "pixelsnail-conditioned": lambda: PixelSNAIL([GRID], [TOP, KIND], SNAIL),
    "pixelsnail-convolves": lambda: PixelSNAIL([GRID], [], CONVOLVES),
    "wavenet": lambda: WaveNet([SEQUENCE], [], PLAIN_WAVE),
    "wavenet-maps": lambda: WaveNet([TRACKS], [], PLAIN_WAVE),
    "wavenet-conditioned": lambda: WaveNet([TRACKS], [KIND, FRAMES], WAVE),
    "wavenet-mixture": lambda: WaveNet([TRACKS], [KIND], replace(WAVE, mixture_components=3)),
}
EVERY = pytest.mark.parametrize("name", PRIORS)


def prior(name: str) -> Autoregressive:
    torch.manual_seed(0)
    net = PRIORS[name]().eval()
    for parameter in net.parameters():  # so that no bias or gain is hidden by being zero or one
        parameter.data += 0.3 * torch.randn(parameter.shape)
    return net


def given(net: Autoregressive, n: int, seed: int = 1) -> Codes:
    generator = torch.Generator().manual_seed(seed)
    return {s.name: torch.randint(s.num_codes or 0, (n, *s.shape), generator=generator) for s in net.conditions}


def ids(net: Autoregressive, n: int, seed: int = 2) -> Tensor:
    shape = (n, *net.space.shape)
    return torch.randint(net.space.num_codes or 0, shape, generator=torch.Generator().manual_seed(seed))


def on_grid(net: Autoregressive, x: Tensor) -> Tensor:
    """A view [B, maps, H, W, ...] of [B, *shape, ...]; a sequence is one row."""
    return x.view(len(x), *net.grid, *x.shape[1 + len(net.space.shape) :])


def order(net: Autoregressive) -> list[tuple[int, int, int]]:
    """Every (map, row, column), in the order of sampling."""
    maps, height, width = net.grid
    return [(m, r, c) for r, c, m in itertools.product(range(height), range(width), range(maps))]


@EVERY
@torch.no_grad()
def test_a_code_influences_all_later_codes_and_no_earlier_one(name: str) -> None:
    """Causality, and, within the receptive field or with attention, no blind spot."""
    net, condition = prior(name), given(prior(name), 1)
    x = ids(net, 1)
    before = net.logits(x, condition)
    positions = order(net)
    reached = 0
    for i, (m, r, c) in enumerate(positions):
        other = x.clone()
        here = on_grid(net, other)[:, m, r, c]
        here.copy_((here + 1) % (net.space.num_codes or 1))
        changed = on_grid(net, (net.logits(other, condition) != before).any(-1))[0]
        assert not any(bool(changed[position]) for position in positions[: i + 1])
        reached += sum(bool(changed[position]) for position in positions[i + 1 :])
    pairs = len(positions) * (len(positions) - 1) // 2
    # With attention, all but the end of the row before is seen at the start of a row: keys hold what precedes their position.
    expected = 0.95 if "pixelsnail" in name and "convolves" not in name else 0.7
    assert reached >= expected * pairs


@EVERY
@torch.no_grad()
def test_incremental_decoding_gives_the_logits_of_the_whole_net(name: str) -> None:
    net, n = prior(name), 3
    condition, x = given(net, n), ids(net, n)
    expected, x = on_grid(net, net.logits(x, condition)), on_grid(net, x)
    decoder = net.decoder(n, condition)
    for r in range(x.shape[2]):
        decoder.row(r)
        for c in range(x.shape[3]):
            known = torch.zeros_like(x[:, :, r, c])
            for m in range(x.shape[1]):
                got = decoder.logits(r, c, known)[:, m]
                torch.testing.assert_close(got, expected[:, m, r, c], atol=2e-5, rtol=1e-4)
                known[:, m] = x[:, m, r, c]
            decoder.put(r, c, known)


@EVERY
def test_a_sample_is_that_of_naive_sampling(name: str) -> None:
    net, n = prior(name), 4
    condition, settings = given(net, n), SamplingSettings(0.9, top_k=4, top_p=0.95)
    sampled = net.sample(n, Seeded(3, "draw"), condition, settings)["codes"]
    uniforms = on_grid(net, Seeded(3, "draw").uniform(n, *net.space.shape))
    naive = torch.zeros_like(sampled)
    for m, r, c in order(net):
        with torch.no_grad():
            logits = on_grid(net, net.logits(naive, condition))[:, m, r, c]
            on_grid(net, naive)[:, m, r, c] = sample_from_logits(logits, uniforms[:, m, r, c], settings)
    assert torch.equal(sampled, naive)
    assert len(sampled.unique()) > 1


@pytest.mark.parametrize("make", [PixelCNN, PixelSNAIL])
@torch.no_grad()
def test_probabilities_of_all_codes_sum_to_one(make: Callable[..., Autoregressive]) -> None:
    config = CNN if make is PixelCNN else SNAIL
    net = make([Space("codes", (1, 2, 3), 3)], [], config).eval()
    everything = torch.tensor(list(itertools.product(range(3), repeat=6))).view(-1, 1, 2, 3)
    total = net.log_prob({"codes": everything}).double().exp().sum()
    torch.testing.assert_close(total, torch.ones((), dtype=torch.float64), atol=1e-5, rtol=0)


@EVERY
def test_known_codes_stay_and_influence_the_others(name: str) -> None:
    net, n = prior(name), 4
    condition, x = given(net, n), ids(net, n)
    mask = torch.zeros(1, *net.space.shape, dtype=torch.bool)
    mask[(..., slice(2), slice(None)) if len(net.space.shape) == 3 else (..., slice(7))] = True
    sampled = net.sample(n, Seeded(3, "draw"), condition, mask=InpaintingMask({"codes": x}, {"codes": mask}))["codes"]
    assert torch.equal(sampled.where(mask, 0), x.where(mask, 0))
    free = net.sample(n, Seeded(3, "draw"), condition)["codes"]
    assert not torch.equal(sampled.where(~mask, 0), free.where(~mask, 0))
    everything = net.sample(
        n, Seeded(3, "draw"), condition, mask=InpaintingMask({"codes": x}, {"codes": torch.ones_like(mask)})
    )
    assert torch.equal(everything["codes"], x)


@EVERY
def test_every_parameter_is_reached(name: str) -> None:
    net, n = prior(name), 4
    loss = -net.log_prob({"codes": ids(net, n)}, given(net, n), Seeded(0, "dropout")).mean()
    loss.backward()
    assert not [key for key, p in net.named_parameters() if p.grad is None or not p.grad.any()]


@EVERY
@torch.no_grad()
def test_dropout_follows_the_random_numbers(name: str) -> None:
    net, n = prior(name), 2
    condition, x = given(net, n), {"codes": ids(net, n)}
    first, again, other = (net.log_prob(x, condition, Seeded(seed, "dropout")) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert torch.equal(net.log_prob(x, condition), net.log_prob(x, condition))
    assert not torch.equal(first, other)


def test_sampling_settings_prefer_the_likeliest_codes() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]]).log_softmax(1).expand(1000, -1)
    uniform = torch.linspace(0, 1, 1001)[:-1]

    def counts(settings: SamplingSettings) -> list[int]:
        return torch.bincount(sample_from_logits(logits, uniform, settings), minlength=4).tolist()

    probabilities = logits[0].softmax(0)
    assert all(
        abs(count / 1000 - probability) < 0.002
        for count, probability in zip(counts(SamplingSettings()), probabilities.tolist(), strict=True)
    )
    assert counts(SamplingSettings(top_k=2))[2:] == [0, 0]
    assert counts(SamplingSettings(top_k=1)) == [1000, 0, 0, 0]
    assert counts(SamplingSettings(top_p=0.7))[2:] == [0, 0]
    assert counts(SamplingSettings(top_p=0.01)) == [1000, 0, 0, 0]
    assert counts(SamplingSettings(temperature=0.1))[0] > 999 > counts(SamplingSettings(temperature=10))[0]
    for wrong in ({"temperature": 0.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}, {"temperature": float("nan")}):
        with pytest.raises(UserError):
            SamplingSettings(**wrong)


def test_a_chain_samples_the_coarse_level_first_and_is_conditioned_on_it() -> None:
    torch.manual_seed(0)
    chain = ChainedPrior([PixelCNN([TOP], [KIND], CNN), PixelSNAIL([GRID], [TOP, KIND], SNAIL)]).eval()
    assert chain.spaces == (TOP, GRID)
    assert chain.conditions == (KIND,)
    condition = {"kind": torch.tensor([0, 1, 2])}
    codes = chain.sample(3, Seeded(0, "draw"), condition)
    whole = chain.log_prob(codes, condition)
    first, second = chain.stages
    torch.testing.assert_close(whole, first.log_prob(codes, condition) + second.log_prob(codes, condition | codes))
    with pytest.raises(UserError, match="put the coarse ones first"):
        ChainedPrior([second, first])


def test_a_prior_of_other_codes_is_refused() -> None:
    pixels = Pixels(Image(1, 4, 6))
    with pytest.raises(
        UserError, match=r"over codes \[1, 4, 6\] 0\.\.4, and the model's codes are pixels \[1, 4, 6\] 0\.\.255"
    ):
        two_stage(pixels, PixelCNN([GRID], [], CNN))
    with pytest.raises(UserError, match="use pixelcnn, which takes several"):
        PixelSNAIL([MAPS], [], SNAIL)
    with pytest.raises(UserError, match="cannot be conditioned on"):
        PixelCNN([GRID], [Space("top", (1, 3, 3), 4)], CNN)
    with pytest.raises(UserError, match="for sounds, wavenet"):
        PixelCNN([SEQUENCE], [], CNN)
    with pytest.raises(UserError, match="for images, use pixelcnn"):
        WaveNet([GRID], [], WAVE)
    with pytest.raises(UserError, match="cannot be conditioned on"):
        WaveNet([SEQUENCE], [Space("top", (1, 5), 4)], WAVE)


def test_each_colour_has_as_many_channels() -> None:
    """Sizes that are no multiple of the number of colours grow to the next one."""
    net = PixelCNN([Space("pixels", (3, 4, 6), 256)], [], PixelCNNConfig(width=64, layers=1, head_channels=512)).net
    assert (net.stacks.width, net.hidden.out_channels) == (66, 513)
    assert PixelCNN([GRID], [], PixelCNNConfig(layers=1)).net.stacks.width == 64


@torch.no_grad()
def test_pixels_with_a_prior_are_a_density_of_images() -> None:
    torch.manual_seed(0)
    pixels = Pixels(Image(2, 3, 4))
    model = two_stage(pixels, PixelCNN(pixels.spaces, [KIND], PixelCNNConfig(width=6, layers=2, head_channels=6)))
    x = torch.randint(0, 256, (5, 2, 3, 4)) / 127.5 - 1
    torch.testing.assert_close(model.decode(model.encode(x)), x)
    kinds = {"kind": torch.arange(5) % 3}
    assert isinstance(model, HasLikelihood)
    found = model.log_prob(x, kinds)
    assert found.kind == "exact"
    torch.testing.assert_close(found.nats, model.prior.log_prob(model.encode(x), kinds))
    assert bool((found.nats < 0).all())
    assert model.decode(model.sample_codes(2, Seeded(0, "draw"))).shape == (2, 2, 3, 4)
    with pytest.raises(UserError, match=r"0\.\.2"):
        model.sample_codes(2, Seeded(0, "draw"), {"kind": torch.tensor([0, 3])})
    assert not [name for name, p in model.first_stage.named_parameters() if p.requires_grad]
    assert isinstance(model.first_stage, nn.Module)


@torch.no_grad()
@pytest.mark.parametrize("components", [0, 2])
def test_probabilities_of_all_sequences_sum_to_one(components: int) -> None:
    net = WaveNet([Space("codes", (2, 3), 3)], [], replace(WAVE, mixture_components=components)).eval()
    everything = torch.tensor(list(itertools.product(range(3), repeat=6))).view(-1, 2, 3)
    total = net.log_prob({"codes": everything}).double().exp().sum()
    torch.testing.assert_close(total, torch.ones((), dtype=torch.float64), atol=1e-5, rtol=0)


@EVERY
@torch.no_grad()
def test_a_log_probability_is_that_of_the_logits(name: str) -> None:
    net, n = prior(name), 3
    condition, x = given(net, n), ids(net, n)
    expected = net.logits(x, condition).log_softmax(-1).gather(-1, x.unsqueeze(-1)).flatten(1).sum(1)
    torch.testing.assert_close(net.log_prob({"codes": x}, condition), expected, rtol=1e-5, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("components", [0, 5])
def test_samples_with_a_prior_are_a_density_of_sounds(components: int) -> None:
    torch.manual_seed(0)
    sounds = MuLaw(Audio(1, 50, 1000))
    model = two_stage(sounds, WaveNet(sounds.spaces, [KIND], replace(PLAIN_WAVE, mixture_components=components)))
    x = torch.rand(5, 1, 50) * 2 - 1
    again = model.decode(model.encode(x))
    assert float((again - x).abs().max()) < 0.05
    torch.testing.assert_close(model.decode(model.encode(again)), again)
    kinds = {"kind": torch.arange(5) % 3}
    assert isinstance(model, HasLikelihood)
    found = model.log_prob(x, kinds)
    assert found.kind == "exact"
    torch.testing.assert_close(found.nats, model.prior.log_prob(model.encode(x), kinds))
    assert model.decode(model.sample_codes(2, Seeded(0, "draw"))).shape == (2, 1, 50)
