"""Layers of codes: ranges, mixing, noise and truncation."""

from __future__ import annotations

import pytest
import torch

from anamorph.core.errors import UserError
from anamorph.core.random import Seeded
from anamorph.core.space import Codes, Space
from anamorph.edit.layers import layer_groups, layered, parse_layers
from anamorph.edit.mix import every_pair, lerp_towards, mix
from anamorph.edit.noise import sample_noise
from anamorph.edit.truncate import truncate

W = Space("w", (6, 4), layered=True)
MAPS = (Space("noise.0", (1, 4, 4), optional=True, role="noise"), Space("noise.1", (1, 4, 8), optional=True, role="noise"))


def codes(n: int, seed: int = 0) -> Codes:
    return {"w": torch.randn(n, *W.shape, generator=torch.Generator().manual_seed(seed))}


def test_layer_groups_are_those_of_the_paper_and_divide_smaller_models_evenly() -> None:
    paper = layer_groups(18)
    assert paper == {"coarse": (0, 1, 2, 3), "middle": (4, 5, 6, 7), "fine": tuple(range(8, 18))}
    assert [len(group) for group in layer_groups(8).values()] == [4, 2, 2]
    for layers in range(4, 20, 2):
        groups = layer_groups(layers)
        assert tuple(layer for group in groups.values() for layer in group) == tuple(range(layers))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-3", (0, 1, 2, 3)),
        ("5", (5,)),
        ("4,0-1,1", (0, 1, 4)),
        ("all", tuple(range(6))),
        ("coarse", (0, 1)),
        ("fine", (4, 5)),
    ],
)
def test_layers_are_read_from_text(text: str, expected: tuple[int, ...]) -> None:
    assert parse_layers(text, 6) == expected


@pytest.mark.parametrize(
    ("text", "layers", "message"),
    [
        ("0-6", 6, "there are layers 0-5, got 0-6"),
        ("3-1", 6, "there are layers 0-5, got 3-1"),
        ("-1", 6, "are written 0-3"),
        ("rough", 6, "are written 0-3.*coarse, middle, fine, all; got 'rough'"),
        ("fine", 4, "none of the 4 layers of this model are fine"),
    ],
)
def test_other_layers_are_refused(text: str, layers: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_layers(text, layers)


def test_mixing_replaces_only_the_given_layers() -> None:
    a, b = codes(3), codes(3, 1)
    mixed = mix(a, b, (0, 4), (W,))["w"]
    assert torch.equal(mixed[:, [0, 4]], b["w"][:, [0, 4]])
    assert torch.equal(mixed[:, [1, 2, 3, 5]], a["w"][:, [1, 2, 3, 5]])
    assert torch.equal(mix(a, a, (1, 2), (W,))["w"], a["w"])
    assert torch.equal(mix(a, b, tuple(range(6)), (W,))["w"], b["w"])
    assert torch.equal(mix(mix(a, b, (2,), (W,)), a, (2,), (W,))["w"], a["w"])


def test_codes_without_layers_are_interpolated_instead_of_mixed() -> None:
    flat = Space("z", (4,))
    a, b = {"z": torch.zeros(2, 4)}, {"z": torch.ones(2, 4) / 3}
    with pytest.raises(UserError, match=r"codes of this model \(z\) have no layers"):
        mix(a, b, (0,), (flat,))
    with pytest.raises(UserError, match="there are layers 0-5, got 6"):
        mix(codes(1), codes(1), (6,), (W,))
    assert torch.equal(lerp_towards(a, b, 0.0)["z"], a["z"])
    assert torch.equal(lerp_towards(a, b, 1.0)["z"], b["z"])
    torch.testing.assert_close(lerp_towards(a, b, 0.25)["z"], b["z"] / 4)
    with pytest.raises(UserError, match="whole numbers"):
        lerp_towards({"ids": torch.zeros(1, dtype=torch.long)}, {"ids": torch.zeros(1, dtype=torch.long)}, 0.5)
    with pytest.raises(UserError, match="finite"):
        lerp_towards(a, b, float("inf"))


def test_every_pair_of_rows_and_columns_comes_row_by_row() -> None:
    rows, columns = {"z": torch.tensor([[1.0], [2.0]])}, {"z": torch.tensor([[3.0], [4.0], [5.0]])}
    left, top = every_pair(rows, columns)
    assert torch.cat([left["z"], top["z"]], 1).tolist() == [[1, 3], [1, 4], [1, 5], [2, 3], [2, 4], [2, 5]]


def test_noise_is_sampled_for_the_given_layers() -> None:
    sampled = sample_noise(5, (W, *MAPS), Seeded(0, "noise"), (1,))
    assert {name: tuple(value.shape) for name, value in sampled.items()} == {"noise.1": (5, 1, 4, 8)}
    with pytest.raises(UserError, match="there are layers 0-1, got 2"):
        sample_noise(5, MAPS, Seeded(0, "noise"), (2,))
    with pytest.raises(UserError, match="no noise maps"):
        sample_noise(5, (W,), Seeded(0, "noise"), (0,))


def test_only_the_given_layers_are_truncated() -> None:
    a, centre = codes(3), {"w": codes(1, 2)["w"][0]}
    cut = truncate(a, centre, -1.0, (1, 5))["w"]
    torch.testing.assert_close(cut[:, [1, 5]], (2 * centre["w"] - a["w"])[:, [1, 5]])
    assert torch.equal(cut[:, [0, 2, 3, 4]], a["w"][:, [0, 2, 3, 4]])
    with pytest.raises(UserError, match="there are layers 0-5, got 6"):
        truncate(a, centre, 0.5, (6,))
    with pytest.raises(UserError, match="have no layers"):
        truncate({"z": torch.zeros(2, 4)}, {"z": torch.zeros(4)}, 0.5, (0,))


def test_the_layered_space_is_found() -> None:
    assert layered((*MAPS, W)) == W
