"""Gated PixelCNNs whose stacks are joined differently from figure 2, against their originals; and what each net sees."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from anamorph.core.errors import UserError
from anamorph.core.prior import SamplingSettings
from anamorph.core.random import Seeded
from anamorph.nn.gated import GatedNet
from anamorph.nn.incremental import sample_from_logits, sample_ids
from gated_skips import SkipNet
from gated_square import FixedNorm, SquareNet
from reference import Case, committed, full

ATOL = 1.5e-4  # five times the suggested 3e-5

Net = GatedNet | SkipNet | SquareNet


class State(dict[str, Tensor]):
    """The original's parameters by name, without what is masked in ours; all must be used."""

    def __init__(self, case: Case) -> None:
        left_out = (".mask", ".num_batches_tracked")
        super().__init__(
            (name.removeprefix("state."), t)
            for name, t in case.tensors.items()
            if name.startswith("state.") and not name.endswith(left_out)
        )

    def put(self, name: str, module: nn.Module) -> None:
        for ours, parameter in module.named_parameters():
            value = self.pop(f"{name}.{ours}")
            for axis, size in enumerate(parameter.shape):
                value = value.narrow(axis, 0, size)  # values below or to the right are masked there
            parameter.data.copy_(value)


def skips(case: Case) -> SkipNet:
    c, state = case.facts["config"], State(case)
    net = SkipNet(
        3,
        c["color_levels"],
        width=c["hidden_fmaps"],
        layers=c["hidden_layers"],
        first_kernel_size=c["causal_ksize"],
        kernel_size=c["hidden_ksize"],
        head_channels=c["out_hidden_fmaps"],
        classes=len(state["label_embedding.weight"]),
    )
    names = {
        "v_conv": "vertical",
        "v_fc": "own",
        "v_to_h": "across",
        "h_conv": "horizontal",
        "h_fc": "out",
        "h_skip": "skip",
        "label_embedding": "label",
    }
    for i, layer in enumerate(net.layers):
        for theirs, ours in names.items():
            if getattr(layer, ours) is not None:
                state.put(f"hidden_conv.{i - 1}.{theirs}" if i else f"causal_conv.{theirs}", getattr(layer, ours))
    assert net.label is not None
    for name, module in {"label_embedding": net.label, "out_hidden_conv": net.hidden, "out_conv": net.last}.items():
        state.put(name, module)
    assert not state
    return net


def square(case: Case) -> SquareNet:
    c, state = case.facts["config"], State(case)
    net = SquareNet(
        c["image_dims"][0],
        2 ** c["n_bits"],
        width=c["n_channels"],
        layers=c["n_res_layers"],
        first_kernel_size=state["input_conv.weight"].shape[2],
        kernel_size=c["kernel_size"],
        head_channels=c["n_out_conv_channels"],
        classes=c["n_cond_classes"],
        normed=c["norm_layer"],
    )
    state.put("input_conv", net.entry)
    if net.label is not None:
        state.put("proj_h", net.label)
    for i, layer in enumerate(net.layers):
        for theirs, ours in {"v": "vertical", "h": "horizontal", "v2h": "across", "h2h": "out"}.items():
            state.put(f"res_layers.{i}.{theirs}", getattr(layer, ours))
        for stack, norm in zip("vh", layer.norms or (), strict=False):
            assert isinstance(norm, FixedNorm)
            state.put(f"res_layers.{i}.norm_layer_{stack}", norm)
            norm.mean.copy_(state.pop(f"res_layers.{i}.norm_layer_{stack}.running_mean"))
            norm.variance.copy_(state.pop(f"res_layers.{i}.norm_layer_{stack}.running_var"))
    for name, module in zip(("conv_out1", "conv_out2", "output"), net.head, strict=True):
        state.put(name, module)
    unused = {f"res_layers.{i}.proj_h.{part}" for i in range(len(net.layers)) for part in ("weight", "bias")}
    assert set(state) == (unused if net.label is not None else set())  # the original has them, and does not use them
    return net


CASES: list[tuple[Callable[[str], Case], str, Callable[[Case], SkipNet | SquareNet]]] = [
    (committed, "pixelcnn_skips", skips),
    (committed, "pixelcnn_square_gray", square),
    (committed, "pixelcnn_square_rgb", square),
    (full, "vq/gatedpixelcnn_aotr", skips),
    (full, "vq/gatedpixelcnn_kb_gray", square),
    (full, "vq/gatedpixelcnn_kb_rgb", square),
]
AGREES = pytest.mark.parametrize(("load", "name", "make"), CASES, ids=[name for _, name, _ in CASES])


def label_of(case: Case) -> Tensor | None:
    onehot = case.tensors.get("input.h_onehot")
    return case.tensors.get("input.label") if onehot is None else onehot.argmax(1)


@AGREES
@torch.no_grad()
def test_nets_with_other_joints_agree(
    load: Callable[[str], Case], name: str, make: Callable[[Case], SkipNet | SquareNet]
) -> None:
    case = load(name)
    net, ids = make(case), case.tensors["input.levels"]
    case.close(net.values(ids), "input.x", 1e-6)
    logits = net(ids, label_of(case)).movedim(-1, 1)
    case.close(logits, "output.logits", ATOL)
    nats = cross_entropy(logits, ids, reduction="none")
    if "output.ce_per_subpixel" in case.tensors:
        case.close(nats, "output.ce_per_subpixel", ATOL)
    else:
        case.close(nats.flatten(1).sum(1), "output.nll_nats", ATOL * nats[0].numel())
    case.close(nats.mean() / torch.tensor(2.0).log(), "output.bits_per_dim", ATOL)


@AGREES
@torch.no_grad()
def test_incremental_sampling_is_naive_sampling(
    load: Callable[[str], Case], name: str, make: Callable[[Case], SkipNet | SquareNet]
) -> None:
    """With the original's weights: the same logits, and the same samples as by repeated use of the whole net."""
    case = load(name)
    net, ids, label = make(case), case.tensors["input.levels"], label_of(case)
    check_decoder(net, ids, label)
    n, _, height, width = ids.shape
    uniforms = Seeded(0, "draw").uniform(*ids.shape)
    sampled = sample_ids(net.decoder(n, height, width, label), uniforms, SamplingSettings())
    naive = torch.zeros_like(ids)
    for r, c, m in itertools.product(range(height), range(width), range(ids.shape[1])):
        naive[:, m, r, c] = sample_from_logits(net(naive, label)[:, m, r, c], uniforms[:, m, r, c], SamplingSettings())
    assert torch.equal(sampled, naive)


def check_decoder(net: Net, ids: Tensor, label: Tensor | None) -> None:
    expected = net(ids, label)
    decoder = net.decoder(len(ids), ids.shape[2], ids.shape[3], label)
    for r in range(ids.shape[2]):
        decoder.row(r)
        for c in range(ids.shape[3]):
            known = torch.zeros_like(ids[:, :, r, c])
            for m in range(ids.shape[1]):
                torch.testing.assert_close(decoder.logits(r, c, known)[:, m], expected[:, m, r, c], atol=2e-5, rtol=1e-4)
                known[:, m] = ids[:, m, r, c]
            decoder.put(r, c, known)


HEIGHT, WIDTH = 5, 6
SIZES = {
    "width": 24,
    "layers": 7,
    "first_kernel_size": 5,
    "kernel_size": 3,
    "head_channels": 24,
}  # so wide that no ReLU blocks a whole channel


def nets(channels: int) -> dict[str, Net]:
    return {
        "paper": GatedNet(channels, 4, **SIZES),
        "skips": SkipNet(channels, 4, **SIZES),
        "square": SquareNet(channels, 4, normed=True, **SIZES),
    }


Position = tuple[int, int, int]  # row, column, channel: in the order of sampling


def seen(net: Net, channels: int) -> dict[Position, set[Position]]:
    """The values on which the logits of each depend, by changing them one by one."""
    for parameter in net.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape)
    positions = list(itertools.product(range(HEIGHT), range(WIDTH), range(channels)))
    ids = torch.randint(0, 4, (1, channels, HEIGHT, WIDTH))
    net.double()  # so that small influences are not lost to rounding
    with torch.no_grad():
        others = ids.repeat(len(positions), 1, 1, 1)
        for i, (r, c, m) in enumerate(positions):
            others[i, m, r, c] = (others[i, m, r, c] + 1) % 4
        changed = (net(others) != net(ids.expand_as(others))).any(-1)
    return {(r, c, m): {positions[i] for i in changed[:, m, r, c].nonzero()[:, 0].tolist()} for r, c, m in positions}


def missed(name: str, position: Position, channels: int) -> set[Position]:
    """The earlier positions that a net does not see, according to its docstring."""
    r, c, m = position
    if name == "square":
        first, others = SIZES["first_kernel_size"] // 2, SIZES["kernel_size"] // 2
        last_columns = {row: c + first + (r - row - 1) * others for row in range(r)}
        return {
            (row, column, k)
            for row, last_column in last_columns.items()
            for column in range(last_column + 1, WIDTH)
            for k in range(channels)
        }
    if name == "skips" and channels > 1:
        return {(r, c, m - 1)} if m else {(r, c - 1, k) for k in (channels - 2, channels - 1)}
    return set()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["paper", "skips", "square"])
def test_a_net_sees_all_earlier_positions_but_its_documented_blind_spot(name: str, channels: int) -> None:
    """No later position and no later channel, and no blind spot but that of its docstring."""
    torch.manual_seed(0)
    influences = seen(nets(channels)[name], channels)
    for position, before in influences.items():
        assert before == {other for other in influences if other < position} - missed(name, position, channels), position


@pytest.mark.parametrize("make", [GatedNet, SkipNet, SquareNet])
def test_features_that_cannot_be_divided_among_channels_are_refused(make: Callable[..., Net]) -> None:
    for wrong in ({"width": 25}, {"head_channels": 25}):
        with pytest.raises(UserError, match="width and head channels must be multiples of the 3 channels of the data"):
            make(3, 4, **(SIZES | wrong))
