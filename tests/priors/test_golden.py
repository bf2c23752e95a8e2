"""Priors against reference implementations: logits, likelihoods, greedy samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anamorph.core.space import Codes, Space
from anamorph.interop.import_pixelsnail import _sizes, tensor_targets
from anamorph.interop.load_tensors import load_tensors
from anamorph.models.autoregressive.common import Autoregressive
from anamorph.models.autoregressive.pixelcnn import PixelCNN, PixelCNNConfig
from anamorph.models.autoregressive.pixelsnail import PixelSNAIL
from reference import Case, committed, full

ATOL = 2.5e-4  # five times the suggested 5e-5


def state_of(case: Case) -> dict[str, Tensor]:
    return {name.removeprefix("state."): t for name, t in case.tensors.items() if name.startswith("state.")}


def copy(module: nn.Module, state: dict[str, Tensor], prefix: str) -> None:
    for name, parameter in module.named_parameters():
        parameter.data.copy_(state.pop(f"{prefix}.{name}").view_as(parameter))


def pixelcnn(case: Case) -> PixelCNN:
    c, state = case.facts["config"], state_of(case)
    grid = Space("codes", (1, *case.tensors["input.codes"].shape[1:]), c["input_dim"])
    settings = PixelCNNConfig(width=c["dim"], layers=c["n_layers"], first_kernel_size=7, kernel_size=3, head_channels=512)
    net = PixelCNN((grid,), (Space("class", (), c["n_classes"]),), settings)
    for i, layer in enumerate(net.net.stacks.layers):
        names: dict[str, Any] = {
            "vert_stack": layer.vertical,
            "vert_to_horiz": layer.across,
            "horiz_stack": layer.horizontal,
            "horiz_resid": layer.out,
            "class_cond_embedding": layer.label,
        }
        for name, module in names.items():
            copy(module, state, f"layers.{i}.{name}")
    net.net.embed[0].weight.data.copy_(state.pop("embedding.weight"))  # type: ignore[operator]
    copy(net.net.hidden, state, "output_conv.0")
    copy(net.net.last, state, "output_conv.2")
    assert not state
    return net


def greedy(net: Autoregressive, n: int, given: Codes) -> Tensor:
    """Greedy sampling: the likeliest code at each position."""
    ids = torch.zeros(n, *net.space.shape, dtype=torch.long)
    decoder = net.decoder(n, given)
    for r in range(ids.shape[2]):
        decoder.row(r)
        for c in range(ids.shape[3]):
            ids[:, :, r, c] = decoder.logits(r, c, ids[:, :, r, c]).argmax(-1)
            decoder.put(r, c, ids[:, :, r, c])
    return ids[:, 0]


PIXELCNN = pytest.mark.parametrize(("load", "name"), [(committed, "pixelcnn"), (full, "vq/gatedpixelcnn_vqprior")])


@PIXELCNN
@torch.no_grad()
def test_the_pixelcnn_over_codes_agrees(load: Callable[[str], Case], name: str) -> None:
    case = load(name)
    net, t = pixelcnn(case), case.tensors
    ids, given = t["input.codes"].unsqueeze(1), {"class": t["input.label"]}
    case.close(net.logits(ids, given)[:, 0].movedim(-1, 1), "output.logits", ATOL)
    nats = net.log_prob({"codes": ids}, given)
    torch.testing.assert_close(-nats.sum() / ids.numel(), t["output.ce"], atol=ATOL, rtol=0)
    assert torch.equal(greedy(net, len(ids), given), t["output.greedy_sample"])


def pixelsnail(case: Case) -> PixelSNAIL:
    c, state = case.facts["config"], state_of(case)
    grid = Space("codes", (1, *c["shape"]), c["n_class"])
    given = []
    if "input.condition" in case.tensors:
        given = [Space("top", (1, *case.tensors["input.condition"].shape[1:]), c["n_class"])]
    del state["background"]
    net = PixelSNAIL([grid], given, _sizes(Path("the case"), state))
    load_tensors(tensor_targets(net), state, "the case")
    return net


SNAILS = [(committed, "pixelsnail"), (full, "vq/pixelsnail_rosinality_top"), (full, "vq/pixelsnail_rosinality_bottom")]


@pytest.mark.parametrize(("load", "name"), SNAILS)
@torch.no_grad()
def test_pixelsnail_agrees(load: Callable[[str], Case], name: str) -> None:
    case = load(name)
    net, t = pixelsnail(case), case.tensors
    ids = t["input.x"].unsqueeze(1)
    given = {"top": t["input.condition"].unsqueeze(1)} if net.conditions else {}
    case.close(net.logits(ids, given)[:, 0].movedim(-1, 1), "output.logits", ATOL)
    nats = net.log_prob({"codes": ids}, given)
    torch.testing.assert_close(-nats.sum() / ids.numel(), t["output.ce"], atol=ATOL, rtol=0)
    assert torch.equal(greedy(net, len(ids), given), t["output.greedy_sample"])
