"""Dilated convolutions against reference implementations, and incremental decoding against whole sequences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from anamorph.core.errors import UserError
from anamorph.core.prior import SamplingSettings
from anamorph.core.random import Seeded
from anamorph.losses.log_prob import logistic_levels, logistic_levels_log_prob, logistic_mixture_log_prob
from anamorph.nn import wavenet_decoder
from anamorph.nn.incremental import sample_ids
from anamorph.nn.value_ranges import from_bytes, from_mu_law, mu_law_compress, mu_law_expand, to_mu_law
from anamorph.nn.wavenet_decoder import StackDecoder, WaveNetDecoder
from anamorph.nn.wavenet_layers import CausalConv, WaveNetNetwork, WaveNetSizes
from reference import Case, committed, full

ATOL = 1.5e-4  # five times the suggested 3e-5


def normed(state: dict[str, Tensor], name: str) -> Tensor:
    """A kernel [O, I, taps] that is stored as a length and a direction."""
    direction = state[f"{name}.weight_v"]
    return direction * (state[f"{name}.weight_g"] / direction.flatten(1).norm(dim=1).view(-1, 1, 1))


def put(kernel: CausalConv, weight: Tensor, bias: Tensor) -> None:
    assert kernel.weight.shape == weight.shape
    kernel.weight.data.copy_(weight)
    if kernel.length is not None:
        kernel.length.data.copy_(weight.flatten(1).norm(dim=1).view(-1, 1, 1))
    assert kernel.bias is not None
    kernel.bias.data.copy_(bias)


def scaled_net(case: Case) -> WaveNetNetwork:
    """As in wavenet_vocoder: weight normalisation, scaled sums, and optionally features and a speaker as conditions."""
    c = case.facts["config"]
    s = {name.removeprefix("state."): t for name, t in case.tensors.items() if name.startswith("state.")}
    config = WaveNetSizes(
        layers=c["layers"],
        dilation_cycle=c["layers"] // c["stacks"],
        kernel_size=c["kernel_size"],
        residual_channels=c["residual_channels"],
        gate_channels=c["gate_channels"] // 2,
        skip_channels=c["skip_out_channels"],
        head_channels=c["skip_out_channels"],
        weight_norm=True,
    )
    net = WaveNetNetwork(
        1, c["out_channels"], config, num_classes=c.get("n_speakers", 0), condition_channels=c.get("cin_channels", 0)
    )
    net.embed[0].weight.data.copy_(normed(s, "first_conv")[:, :, 0].t() + s["first_conv.bias"])
    names = [f"conv_layers.{i}" for i in range(c["layers"])]
    for name, layer in zip(names, net.stack.layers, strict=True):
        put(layer.dilated, normed(s, f"{name}.conv"), s[f"{name}.conv.bias"])
        kept = ["conv1x1_out", "conv1x1_skip"][not layer.residual_channels :]
        weight = torch.cat([normed(s, f"{name}.{part}") for part in kept])
        put(layer.out, weight, torch.cat([s[f"{name}.{part}.bias"] for part in kept]))
    if net.stack.condition is not None:
        net.stack.condition.weight.data.copy_(torch.cat([normed(s, f"{name}.conv1x1c") for name in names]))
    if net.stack.label is not None:
        table = torch.cat([normed(s, f"{name}.conv1x1g")[:, :, 0] for name in names])
        net.stack.label.weight.data.copy_(s["embed_speakers.weight"] @ table.t())
    put(net.hidden, normed(s, "last_conv_layers.1"), s["last_conv_layers.1.bias"])
    put(net.last[0], normed(s, "last_conv_layers.3"), s["last_conv_layers.3.bias"])
    return net


def plain_net(case: Case) -> WaveNetNetwork:
    """As in pytorch-wavenet, and in the paper: nothing is normed or scaled."""
    c = case.facts["config"]
    s = {name.removeprefix("state."): t for name, t in case.tensors.items() if name.startswith("state.")}
    config = WaveNetSizes(
        layers=c["layers"] * c["blocks"],
        dilation_cycle=c["layers"],
        kernel_size=c["kernel_size"],
        residual_channels=c["residual_channels"],
        gate_channels=c["dilation_channels"],
        skip_channels=c["skip_channels"],
        head_channels=c["end_channels"],
        scale_sums=False,
    )
    net = WaveNetNetwork(1, c["classes"], config)
    net.embed[0].weight.data.copy_(s["start_conv.weight"][:, :, 0].t() + s["start_conv.bias"])
    for i, layer in enumerate(net.stack.layers):
        gates, kept = ["filter_convs", "gate_convs"], ["residual_convs", "skip_convs"][not layer.residual_channels :]
        for kernel, parts in ((layer.dilated, gates), (layer.out, kept)):
            put(kernel, *(torch.cat([s[f"{part}.{i}.{what}"] for part in parts]) for what in ("weight", "bias")))
    put(net.hidden, s["end_conv_1.weight"], s["end_conv_1.bias"])
    put(net.last[0], s["end_conv_2.weight"], s["end_conv_2.bias"])
    return net


def conditions_of(case: Case) -> tuple[Tensor | None, Tensor | None]:
    speaker = case.tensors.get("input.speaker_id")
    return None if speaker is None else speaker[:, 0], case.tensors.get("input.c")


def next_logits(net: WaveNetNetwork, ids: Tensor, label: Tensor | None, condition: Tensor | None) -> Tensor:
    """Logits of each next id [B, T, K]; the references have nothing before the first."""
    x = net.embedded(ids.t().unsqueeze(0))
    return net.read(net.stack(x, label, condition), ids.unsqueeze(1))[:, 0]


def greedy(
    net: WaveNetNetwork, start: Tensor, count: int, label: Tensor | None, condition: Tensor | None, steps: int
) -> Tensor:
    """The first ids [B, k] and the likeliest ones after them [B, count], step by step."""
    decoder = StackDecoder(net.stack, len(start), label, condition, steps)
    ids = [*start.unbind(1)]
    for t in range(count - 1):
        skips = decoder.step(net.embedded(ids[t].unsqueeze(0)))
        if t + 1 == len(ids):
            ids.append(net.read(skips.unsqueeze(0), ids[t][:, None, None])[:, 0, 0].argmax(-1))
    return torch.stack(ids, 1)


SCALED = [
    (committed, "wavenet_scaled"),
    (committed, "wavenet_told"),
    (full, "vq/wavenet_r9y9_softmax"),
    (full, "vq/wavenet_r9y9_cond"),
]


@pytest.mark.parametrize(("load", "name"), SCALED)
@torch.no_grad()
def test_a_scaled_wavenet_and_its_greedy_samples_agree(load: Callable[[str], Case], name: str) -> None:
    case = load(name)
    net, t = scaled_net(case), case.tensors
    label, condition = conditions_of(case)
    ids = t["input.x_ids"]
    logits = next_logits(net, ids, label, condition)
    case.close(logits.movedim(-1, 1), "output.logits", ATOL)
    loss = cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(loss, t["output.ce_next_sample"], atol=ATOL, rtol=0)
    wanted = t["output.greedy_sequence"]
    assert torch.equal(greedy(net, wanted[:, :4], wanted.shape[1], label, condition, ids.shape[1]), wanted)


@pytest.mark.parametrize(("load", "name"), [(committed, "wavenet_plain"), (full, "vq/wavenet_vincent")])
@torch.no_grad()
def test_a_plain_wavenet_agrees(load: Callable[[str], Case], name: str) -> None:
    case = load(name)
    net, t = plain_net(case), case.tensors
    assert net.stack.config.receptive_field == 31
    ids, wanted = t["input.x_ids"][:, :-1], t["input.x_ids"][:, -t["output.logits"].shape[1] :]
    logits = next_logits(net, ids, None, None)[:, -wanted.shape[1] :]
    case.close(logits, "output.logits", ATOL)
    torch.testing.assert_close(cross_entropy(logits.flatten(0, 1), wanted.flatten()), t["output.ce_next"], atol=ATOL, rtol=0)
    decoder = StackDecoder(net.stack, len(ids), None, None, ids.shape[1])
    found = [decoder.step(net.embedded(ids[None, :, place])) for place in range(ids.shape[1])]
    case.close(net.read(torch.stack(found), ids.unsqueeze(1))[:, 0, -wanted.shape[1] :], "output.logits", ATOL)


@pytest.mark.parametrize(("load", "name"), [(committed, "mu_law"), (full, "vq/mulaw256")])
def test_mu_law_agrees(load: Callable[[str], Case], name: str) -> None:
    case = load(name)
    x, codes = case.tensors["input.x"], case.tensors["input.codes"]
    case.close(mu_law_compress(x), "output.companded", 1e-12)
    assert torch.equal(to_mu_law(x), case.tensors["output.code_round"])
    case.close(from_mu_law(codes.double()), "output.decode_from_code", 1e-12)
    torch.testing.assert_close(mu_law_expand(mu_law_compress(x)), x)
    assert torch.equal(to_mu_law(from_mu_law(torch.arange(256))), torch.arange(256))
    assert to_mu_law(torch.zeros(1)).item() == 128


SMALL = WaveNetSizes(residual_channels=6, gate_channels=5, skip_channels=7, head_channels=8)
NETS = {
    "plain": WaveNetNetwork(1, 9, replace(SMALL, layers=9, dilation_cycle=7, scale_sums=False)),
    "far": WaveNetNetwork(2, 9, replace(SMALL, layers=5, dilation_cycle=5, kernel_size=4, weight_norm=True), num_classes=3),
    "conditioned": WaveNetNetwork(
        1,
        9,
        replace(SMALL, layers=9, dilation_cycle=7, kernel_size=3),
        num_classes=3,
        condition_channels=4,
        mixture_components=2,
    ),
}


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(
    ("name", "frames"),
    [("plain", 1), ("far", 1), ("conditioned", 1), ("conditioned", 2), ("conditioned", 12), ("conditioned", 192)],
)
@torch.no_grad()
def test_incremental_decoding_gives_the_logits_of_the_whole_net(name: str, frames: int, n: int) -> None:
    """For more steps than a block, and with dilations larger than one."""
    steps, generator = 192, torch.Generator().manual_seed(0)
    assert steps > 2 * wavenet_decoder.BLOCK
    net = NETS[name].eval()
    for parameter in net.parameters():
        parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    assert max(net.stack.config.dilations) >= wavenet_decoder.BLOCK
    ids = torch.randint(9, (n, net.maps, steps), generator=generator)
    label = torch.arange(n) if net.stack.label is not None else None
    condition = torch.randn(n, 4, frames, generator=generator) if net.stack.condition is not None else None
    wanted = net.logits(net(ids, label, condition))
    decoder = WaveNetDecoder(net, n, steps, label, condition)
    for _ in range(2):  # the second time, it must have been reset
        decoder.row(0)
        for t in range(steps):
            known = ids[:, :, t]
            torch.testing.assert_close(decoder.logits(0, t, known), wanted[:, :, t], atol=2e-5, rtol=1e-4)
            decoder.put(0, t, known)


def test_embeddings_of_ordered_codes_begin_smooth_and_others_do_not() -> None:
    torch.manual_seed(0)

    def steps(ordered: bool) -> float:
        """Mean distance of neighbouring ids, relative to that of any two."""
        rows = WaveNetNetwork(1, 256, replace(SMALL, residual_channels=64), ordered=ordered).embed[0].weight.detach()
        return float((rows[1:] - rows[:-1]).norm(dim=1).mean() / torch.pdist(rows).mean())

    assert 0.9 < steps(False) < 1.1
    assert steps(True) < 0.15


@torch.no_grad()
def test_the_receptive_field_is_as_stated_and_causal() -> None:
    torch.manual_seed(0)
    net = WaveNetNetwork(
        1, 9, replace(SMALL, layers=6, dilation_cycle=3, kernel_size=3)
    ).double()  # the furthest input has the least influence
    reach = net.stack.config.receptive_field
    assert reach == 2 * 14 + 1
    ids = torch.randint(9, (1, 1, 80))
    before, changed = net(ids), ids.clone()
    changed[0, 0, 20] = (changed[0, 0, 20] + 1) % 9
    steps = (net(changed) != before).any(-1)[0, 0].nonzero().flatten()
    assert (int(steps[0]), int(steps[-1])) == (21, 20 + reach)


@torch.no_grad()
def test_the_state_does_not_grow_with_the_length_of_the_sequence() -> None:
    net = NETS["plain"]
    sizes = [
        sum(layer.history.numel() + layer.partial.numel() for layer in WaveNetDecoder(net, 1, steps, None, None).stack.layers)
        for steps in (1_000, 1_000_000)
    ]
    assert sizes[0] == sizes[1]


@torch.no_grad()
def test_a_decoder_that_is_reset_samples_the_same() -> None:
    net = NETS["plain"]
    decoder, uniforms = WaveNetDecoder(net, 2, 100, None, None), Seeded(0, "draw").uniform(2, 1, 1, 100)
    reported: list[tuple[int, int]] = []
    first = sample_ids(decoder, uniforms, SamplingSettings(), progress=lambda done, total: reported.append((done, total)))
    assert torch.equal(first, sample_ids(decoder, uniforms, SamplingSettings()))
    assert reported[-1] == (100, 100)


def test_a_mixture_of_logistics_over_levels_sums_to_one_and_agrees_with_that_of_pixels() -> None:
    torch.manual_seed(0)
    parameters = torch.randn(7, 3 * 4, dtype=torch.float64) * 2
    logits = logistic_levels(parameters, 256)
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(7, dtype=torch.float64), atol=1e-12, rtol=0)
    ids = torch.randint(256, (7,))
    torch.testing.assert_close(logits[torch.arange(7), ids], logistic_levels_log_prob(ids, parameters, 256))
    pixels = from_bytes(ids.double())[:, None, None, None]
    each = logistic_mixture_log_prob(pixels, parameters[:, :, None, None]).flatten()
    inside = logits[torch.arange(7), ids] > -9  # below, that of pixels uses the density instead of the mass
    torch.testing.assert_close(each[inside], logits[torch.arange(7), ids][inside], atol=1e-4, rtol=0)
    assert int(inside.sum()) >= 3


def test_a_mixture_of_logistics_has_gradients_in_its_tails() -> None:
    parameters = torch.tensor([[0.0, -0.9, -9.0]], requires_grad=True)
    for level in (0, 200, 255):
        (gradient,) = torch.autograd.grad(logistic_levels_log_prob(torch.tensor([level]), parameters, 256).sum(), parameters)
        assert bool(torch.isfinite(gradient).all())
        assert bool(gradient[0, 1] != 0)


def test_sizes_that_make_no_sense_are_refused() -> None:
    for wrong in ({"kernel_size": 1}, {"dilation_cycle": 30}, {"layers": 0}, {"dropout": 1.0}):
        with pytest.raises(UserError):
            replace(SMALL, **wrong)
