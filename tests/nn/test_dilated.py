"""Dilated convolutions against reference implementations, and place by place against all at once."""

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
from anamorph.nn import wavenet_decoder as dilated_walk
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
    """As in wavenet_vocoder: normed kernels, sums divided by roots; perhaps told features and a speaker."""
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


def told_of(case: Case) -> tuple[Tensor | None, Tensor | None]:
    speaker = case.tensors.get("input.speaker_id")
    return None if speaker is None else speaker[:, 0], case.tensors.get("input.c")


def next_logits(net: WaveNetNetwork, ids: Tensor, label: Tensor | None, told: Tensor | None) -> Tensor:
    """What each id says of the next one [B, T, K]; the references have nothing before the first."""
    x = net.embedded(ids.t().unsqueeze(0))
    return net.read(net.stack(x, label, told), ids.unsqueeze(1))[:, 0]


def greedy(net: WaveNetNetwork, start: Tensor, count: int, label: Tensor | None, told: Tensor | None, places: int) -> Tensor:
    """The first ids [B, k] and the likeliest ones after them [B, count], place by place."""
    walk = StackDecoder(net.stack, len(start), label, told, places)
    ids = [*start.unbind(1)]
    for t in range(count - 1):
        skips = walk.step(net.embedded(ids[t].unsqueeze(0)))
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
def test_a_scaled_wavenet_agrees_and_so_does_what_it_draws(load: Callable[[str], Case], name: str) -> None:
    case = load(name)
    net, t = scaled_net(case), case.tensors
    label, told = told_of(case)
    ids = t["input.x_ids"]
    logits = next_logits(net, ids, label, told)
    case.close(logits.movedim(-1, 1), "output.logits", ATOL)
    loss = cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(loss, t["output.ce_next_sample"], atol=ATOL, rtol=0)
    wanted = t["output.greedy_sequence"]
    assert torch.equal(greedy(net, wanted[:, :4], wanted.shape[1], label, told, ids.shape[1]), wanted)


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
    walk = StackDecoder(net.stack, len(ids), None, None, ids.shape[1])
    found = [walk.step(net.embedded(ids[None, :, place])) for place in range(ids.shape[1])]
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
    "told": WaveNetNetwork(
        1,
        9,
        replace(SMALL, layers=9, dilation_cycle=7, kernel_size=3),
        num_classes=3,
        condition_channels=4,
        mixture_components=2,
    ),
}


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(("name", "frames"), [("plain", 1), ("far", 1), ("told", 1), ("told", 2), ("told", 12), ("told", 192)])
@torch.no_grad()
def test_place_by_place_it_computes_what_it_computes_at_once(name: str, frames: int, n: int) -> None:
    """Over more places than are looked at together, and with taps further apart than these."""
    places, generator = 192, torch.Generator().manual_seed(0)
    assert places > 2 * dilated_walk.BLOCK
    net = NETS[name].eval()
    for parameter in net.parameters():
        parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    assert max(net.stack.config.dilations) >= dilated_walk.BLOCK
    ids = torch.randint(9, (n, net.maps, places), generator=generator)
    label = torch.arange(n) if net.stack.label is not None else None
    told = torch.randn(n, 4, frames, generator=generator) if net.stack.condition is not None else None
    wanted = net.logits(net(ids, label, told))
    walk = WaveNetDecoder(net, n, places, label, told)
    for _ in range(2):  # the second time, it has to have forgotten the first
        walk.row(0)
        for t in range(places):
            known = ids[:, :, t]
            torch.testing.assert_close(walk.logits(0, t, known), wanted[:, :, t], atol=2e-5, rtol=1e-4)
            walk.put(0, t, known)


def test_levels_begin_with_vectors_that_change_slowly_and_names_do_not() -> None:
    torch.manual_seed(0)

    def steps(ordered: bool) -> float:
        """How far neighbours are apart, where any two are one apart."""
        rows = WaveNetNetwork(1, 256, replace(SMALL, residual_channels=64), ordered=ordered).embed[0].weight.detach()
        return float((rows[1:] - rows[:-1]).norm(dim=1).mean() / torch.pdist(rows).mean())

    assert 0.9 < steps(False) < 1.1
    assert steps(True) < 0.15


@torch.no_grad()
def test_it_reaches_as_far_as_it_says_and_never_ahead() -> None:
    torch.manual_seed(0)
    net = WaveNetNetwork(
        1, 9, replace(SMALL, layers=6, dilation_cycle=3, kernel_size=3)
    ).double()  # what is furthest counts least
    reach = net.stack.config.receptive_field
    assert reach == 2 * 14 + 1
    ids = torch.randint(9, (1, 1, 80))
    before, changed = net(ids), ids.clone()
    changed[0, 0, 20] = (changed[0, 0, 20] + 1) % 9
    places = (net(changed) != before).any(-1)[0, 0].nonzero().flatten()
    assert (int(places[0]), int(places[-1])) == (21, 20 + reach)


@torch.no_grad()
def test_the_work_of_a_step_does_not_grow_with_how_many_there_were() -> None:
    """Nothing that is kept has the length of the sequence."""
    net = NETS["plain"]
    sizes = [
        sum(layer.history.numel() + layer.partial.numel() for layer in WaveNetDecoder(net, 1, places, None, None).stack.layers)
        for places in (1_000, 1_000_000)
    ]
    assert sizes[0] == sizes[1]


@torch.no_grad()
def test_a_walk_that_starts_anew_draws_the_same() -> None:
    net = NETS["plain"]
    walk, chances = WaveNetDecoder(net, 2, 100, None, None), Seeded(0, "draw").uniform(2, 1, 1, 100)
    told: list[tuple[int, int]] = []
    first = sample_ids(walk, chances, SamplingSettings(), progress=lambda done, total: told.append((done, total)))
    assert torch.equal(first, sample_ids(walk, chances, SamplingSettings()))
    assert told[-1] == (100, 100)


def test_a_mixture_of_logistics_over_levels_sums_to_one_and_agrees_with_that_of_pixels() -> None:
    torch.manual_seed(0)
    parameters = torch.randn(7, 3 * 4, dtype=torch.float64) * 2
    logits = logistic_levels(parameters, 256)
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(7, dtype=torch.float64), atol=1e-12, rtol=0)
    ids = torch.randint(256, (7,))
    torch.testing.assert_close(logits[torch.arange(7), ids], logistic_levels_log_prob(ids, parameters, 256))
    pixels = from_bytes(ids.double())[:, None, None, None]
    each = logistic_mixture_log_prob(pixels, parameters[:, :, None, None]).flatten()
    inside = logits[torch.arange(7), ids] > -9  # below, that of pixels takes the density for the mass
    torch.testing.assert_close(each[inside], logits[torch.arange(7), ids][inside], atol=1e-4, rtol=0)
    assert int(inside.sum()) >= 3


def test_far_out_a_mixture_of_logistics_has_gradients() -> None:
    parameters = torch.tensor([[0.0, -0.9, -9.0]], requires_grad=True)
    for level in (0, 200, 255):
        (gradient,) = torch.autograd.grad(logistic_levels_log_prob(torch.tensor([level]), parameters, 256).sum(), parameters)
        assert bool(torch.isfinite(gradient).all())
        assert bool(gradient[0, 1] != 0)


def test_sizes_that_make_no_sense_are_refused() -> None:
    for wrong in ({"kernel_size": 1}, {"dilation_cycle": 30}, {"layers": 0}, {"dropout": 1.0}):
        with pytest.raises(UserError):
            replace(SMALL, **wrong)
