"""Masked convolutions against their definition, and against recorded masks."""

from __future__ import annotations

import re

import pytest
import torch

from anamorph.core.random import Seeded
from anamorph.nn.gated import GatedStacks
from anamorph.nn.masked import MaskedConv, WeightNormConv, dropout, mask_of
from reference import committed


@pytest.mark.parametrize("kind", ["A", "B"])
def test_masks_are_those_of_the_paper(kind: str) -> None:
    """Figures 2 and 4; features belong to colours in turn."""
    case = committed("masks")
    names = [name for name in case.tensors if name.startswith(f"output.{kind}.modulo.")]
    assert len(names) == 5
    for name in names:
        found = re.search(r"o(\d+)i(\d+)k(\d+)c(\d+)", name)
        assert found
        outputs, inputs, side, channels = map(int, found.groups())
        got = mask_of(outputs, inputs, (side, side), channels, kind)  # type: ignore[arg-type]
        assert torch.equal(got, case.tensors[name].float())


def test_masked_weights_have_no_influence_on_the_output_or_the_norm_of_a_kernel() -> None:
    mask = torch.ones(1, 1, 3, 3)
    mask[:, :, 2] = 0
    torch.manual_seed(0)
    conv = WeightNormConv(2, 4, (3, 3), (1, 1, 1, 1), mask)
    plain = MaskedConv(2, 4, (3, 3), (1, 1, 1, 1), mask)
    plain.load_state_dict({"weight": conv.weight.detach(), "bias": conv.bias.detach()})  # type: ignore[union-attr]
    x = torch.randn(2, 2, 5, 4)
    torch.testing.assert_close(conv(x), plain(x))  # g begins as the norm of the kernel
    before = conv(x)
    conv.weight.data[:, :, 2] += 100.0
    assert torch.equal(conv(x), before)
    conv.length.data.mul_(2)
    torch.testing.assert_close(conv(x) - conv.bias[:, None, None], 2 * (before - conv.bias[:, None, None]))  # type: ignore[index]


@torch.no_grad()
def test_the_stacks_see_all_earlier_positions_and_no_others() -> None:
    """No blind spot: with enough layers, every earlier position is seen."""
    torch.manual_seed(0)
    stacks = GatedStacks(3, 4, layers=6, first_kernel_size=5, kernel_size=3)
    x = torch.randn(1, 3, 5, 6)
    before = stacks(x)
    for position in range(30):
        r, c = divmod(position, 6)
        other = x.clone()
        other[:, :, r, c] += 1
        changed = (stacks(other) != before).any(1)[0].flatten()
        assert not changed[: position + 1].any()
        assert changed[position + 1 :].float().mean() > 0.85 or position >= 28


def test_dropout_keeps_the_mean_and_follows_the_random_numbers() -> None:
    x = torch.ones(200, 500)
    dropped = dropout(x, 0.3, Seeded(0, "d"))
    assert abs(float(dropped.mean()) - 1) < 0.01
    assert abs(float((dropped == 0).float().mean()) - 0.3) < 0.01
    assert torch.equal(dropped, dropout(x, 0.3, Seeded(0, "d")))
    assert dropout(x, 0.3, None) is x
    assert dropout(x, 0.0, Seeded(0, "d")) is x
