"""Directions: finding them, writing them to files, orthogonalising them, and moving along them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.files import write_tensors
from anamorph.core.model import Encodes, Labels, Noise
from anamorph.core.signal import Image
from anamorph.core.space import Codes, Space
from anamorph.edit.directions import Classifier, Directions, flat, move, orthogonalize, principal, separating, style_factors
from anamorph.edit.traverse import change_rates, leakage, traversal

Z = Space("z", (2, 3))
W = Space("w", (4, 5), layered=True)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(k: int, d: int, seed: int = 0) -> Tensor:
    return torch.nn.functional.normalize(normal(k, d, seed=seed))


def directions(space: Space = W, k: int = 3) -> Directions:
    d, layers = (space.shape[1], (1, 2)) if space.layered else (6, None)
    measures = {"accuracy": tuple(i / 7 for i in range(k))}
    return Directions(
        space.name, tuple("abcdef"[:k]), unit(k, d), torch.arange(1.0, k + 1), layers, measures, method="svm", model="abc"
    )


def test_principal_components_are_those_of_a_singular_value_decomposition() -> None:
    codes = normal(200, 7) * torch.arange(1.0, 8) + 3
    vectors, scales, shares = principal(codes, 4)
    _, s, v = np.linalg.svd((codes - codes.mean(0)).double().numpy(), full_matrices=False)
    np.testing.assert_allclose((vectors.double().numpy() * v[:4]).sum(1) ** 2, 1, atol=1e-5)
    np.testing.assert_allclose(scales, s[:4] / np.sqrt(199), rtol=1e-5)
    np.testing.assert_allclose(shares, (s**2 / (s**2).sum())[:4], rtol=1e-5)
    assert bool((vectors.gather(1, vectors.abs().argmax(1, keepdim=True)) > 0).all())


def test_principal_components_do_not_depend_on_autocast() -> None:
    codes = normal(300, 9) * torch.logspace(0, -4, 9)
    exact, scales, _ = principal(codes, 9)
    with torch.autocast("cpu", torch.bfloat16):
        found, again, _ = principal(codes, 9)
    assert torch.equal(exact, found)
    assert torch.equal(scales, again)


def test_style_factors_change_styles_most() -> None:
    weights = [normal(8, 5), normal(6, 5, seed=1)]
    vectors, gains = style_factors(weights, 5)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(5), atol=1e-5, rtol=0)
    moved = (torch.cat(weights) @ vectors.T).norm(dim=0)
    torch.testing.assert_close(moved, gains)
    assert gains.tolist() == sorted(gains.tolist(), reverse=True)
    assert float((torch.cat(weights) @ unit(1, 5, seed=2).T).norm()) < float(gains[0])
    with pytest.raises(UserError, match="choose other layers"):
        style_factors([], 1)
    with pytest.raises(UserError, match="1 to 5 directions, got 6"):
        style_factors(weights, 6)


@pytest.mark.parametrize("method", ["svm", "logistic", "linear", "means"])
def test_normals_separate_classes(method: Classifier) -> None:
    codes, classes = normal(600, 6), torch.arange(600) % 3
    codes[:, 2] += 6.0 * (classes == 2)
    codes[:, 4] += 6.0 * (classes == 1)
    normals, accuracies, names = separating(codes, classes, method)
    assert names == [0, 1, 2]
    lower_bound = 0.8 if method == "means" else 0.9  # the mean of the others lies off the axis: 6 / |(6, 3)| = 0.89
    assert float(normals[1, 4]) > lower_bound
    assert float(normals[2, 2]) > lower_bound
    assert accuracies.min() > 0.95
    two, _, only = separating(codes, (classes == 1).long(), method)
    assert only == [1]
    assert float(two[0, 4]) > lower_bound
    by_luck, luck, _ = separating(normal(400, 6), torch.arange(400) % 2, method)
    assert float(luck[0]) < 0.65
    torch.testing.assert_close(by_luck.norm(dim=1), torch.ones(1))


def test_classes_of_few_images_are_left_out() -> None:
    codes, classes = normal(300, 6), torch.arange(300) % 3
    classes[:5] = 7
    assert separating(codes, classes, "linear")[2] == [0, 1, 2]


def test_rare_classes_weigh_as_much_as_common_ones() -> None:
    codes, classes = normal(2000, 4), (torch.arange(2000) % 20 == 0).long()
    codes[:, 0] += 3.0 * classes
    for method in ("svm", "logistic", "linear", "means"):
        _, accuracies, _ = separating(codes, classes, method)
        assert float(accuracies[0]) > 0.85  # a constant prediction would have 0.5


def test_directions_need_enough_codes_and_classes() -> None:
    with pytest.raises(UserError, match="all of these images are of one class"):
        separating(normal(50, 3), torch.zeros(50))
    with pytest.raises(UserError, match="needs two classes with at least 10 images each"):
        separating(normal(50, 3), (torch.arange(50) < 3).long())
    with pytest.raises(UserError, match="more than 5 codes, got 5"):
        principal(normal(5, 5), 2)
    with pytest.raises(UserError, match="1 to 5 directions, got 0"):
        principal(normal(50, 5), 0)
    with pytest.raises(UserError, match="whole numbers"):
        flat(torch.zeros(3, 2, dtype=torch.long), Space("ids", (2,), 7))


@pytest.mark.parametrize("space", [Z, W])
def test_there_and_back_is_where_one_was(space: Space) -> None:
    codes = {space.name: normal(7, *space.shape), "other": normal(7, 2, seed=1)}
    there = move(codes, directions(space), 1, 2.5, space)
    assert not torch.equal(there[space.name], codes[space.name])
    back = move(there, directions(space), 1, -2.5, space)
    torch.testing.assert_close(back[space.name], codes[space.name], atol=1e-5, rtol=0)
    assert torch.equal(back["other"], codes["other"])
    assert torch.equal(move(codes, directions(space), 1, 0.0, space)[space.name], codes[space.name])


def test_only_the_layers_that_are_meant_move_each_by_its_own_steps() -> None:
    codes, ways = {"w": normal(2, *W.shape)}, directions()
    moved = move(codes, ways, 2, torch.tensor([1.0, -2.0]), W)["w"] - codes["w"]
    assert not moved[:, [0, 3]].any()
    torch.testing.assert_close(moved[0, 1], ways.vectors[2] * ways.scales[2])
    torch.testing.assert_close(moved[1, 2], -2 * ways.vectors[2] * ways.scales[2])
    assert move(codes, ways, 2, 1.0, W, (3,))["w"][:, :3].equal(codes["w"][:, :3])
    with pytest.raises(UserError, match="finite"):
        move(codes, ways, 0, float("nan"), W)
    for layers in ((4,), (-1,), ()):
        with pytest.raises(UserError, match="there are layers 0-3, got"):
            move(codes, ways, 0, 1.0, W, layers)
    with pytest.raises(UserError, match="have 5 numbers"):
        move({"w": normal(2, 4, 6)}, ways, 0, 1.0, Space("w", (4, 6), layered=True))


def test_directions_are_written_and_read(tmp_path: Path) -> None:
    ways = directions()
    ways.write(tmp_path / "ways")
    again = Directions.read(tmp_path / "ways")
    assert torch.equal(again.vectors, ways.vectors)
    assert torch.equal(again.scales, ways.scales)
    assert (again.names, again.layers, again.measures) == (ways.names, ways.layers, ways.measures)
    assert (again.space, again.method, again.model) == ("w", "svm", "abc")
    directions(Z).write(tmp_path / "flat")
    assert Directions.read(tmp_path / "flat").layers is None
    picked = again.only(["c", "a"])
    assert (picked.names, picked.measures["accuracy"]) == (("c", "a"), (2 / 7, 0.0))
    assert torch.equal(picked.vectors, ways.vectors[[2, 0]])
    with pytest.raises(UserError, match="no direction 'x'"):
        again.only(["x"])


@pytest.mark.parametrize("facts", [{}, {"directions": "{"}, {"directions": "[]"}, {"directions": '{"layers": "ab"}'}])
def test_other_files_hold_no_directions(tmp_path: Path, facts: dict[str, str]) -> None:
    write_tensors(tmp_path / "f", {"vectors": torch.ones(1, 2), "scales": torch.ones(1)}, facts)
    with pytest.raises(UserError, match="holds no directions"):
        Directions.read(tmp_path / "f")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ("a", "b")}, "do not make directions"),
        ({"scales": torch.tensor([1.0, float("nan"), 1.0])}, "finite"),
        ({"names": ("a", "b", "a")}, "all different"),
        ({"measures": {"accuracy": (1.0,)}}, "one of each measure"),
    ],
)
def test_inconsistent_directions_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(directions(), **changes)  # type: ignore[arg-type]


def test_directions_of_another_space_or_width_are_refused() -> None:
    assert directions().check((Z, W)) == W
    with pytest.raises(UserError, match=r"of the space 'w', the model has z \[2, 3\] real"):
        directions().check((Z,))
    with pytest.raises(UserError, match="have 5 numbers"):
        directions().check((Space("w", (4, 6), layered=True),))
    with pytest.raises(UserError, match=r"act on the layers \(1, 9\)"):
        replace(directions(), layers=(1, 9)).check((W,))


def test_an_orthogonalized_direction_does_not_move_along_the_others() -> None:
    ways, codes = directions(Z), normal(500, 6) * torch.arange(1.0, 7)
    free = orthogonalize(ways, ["a", "c"], codes)
    assert free.names == ("b",)
    torch.testing.assert_close(free.vectors @ ways.vectors[[0, 2]].T, torch.zeros(1, 2), atol=1e-6, rtol=0)
    torch.testing.assert_close(free.vectors.norm(dim=1), torch.ones(1))
    torch.testing.assert_close(free.scales, (codes @ free.vectors.T).std(0))
    assert not free.measures  # they were of the old direction
    doubled = Directions("z", ("a", "b", "c"), ways.vectors[[0, 0, 1]], torch.ones(3))
    with pytest.raises(UserError, match="nothing is left of 'b' without a"):
        orthogonalize(doubled, ["a"], codes)
    with pytest.raises(UserError, match="without a, b, c there is no direction left"):
        orthogonalize(doubled, ["a", "b", "c"], codes)
    same = orthogonalize(doubled, ["a", "b"], codes).vectors  # the same direction twice removes no more than once
    torch.testing.assert_close(same, orthogonalize(ways.only(["a", "b"]), ["a"], codes).vectors, atol=1e-6, rtol=0)


class Mirror(Encodes):
    """Images are flipped codes: the encoder inverts the decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.signal, self.spaces = Image(1, 2, 3), (Z,)

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        return codes["z"].unsqueeze(1).flip(3)

    def _encode(self, x: Tensor, labels: Labels) -> Codes:
        return {"z": x.flip(3).squeeze(1)}


def test_a_traversal_runs_through_steps_then_directions_then_images() -> None:
    codes, ways, steps = {"z": normal(2, 2, 3)}, directions(Z), torch.tensor([-1.0, 0.0, 2.0, 3.0])
    moved = traversal(codes, ways, steps, Z)["z"].unflatten(0, (2, 3, 4))
    torch.testing.assert_close(moved[:, :, 1], codes["z"][:, None].expand(2, 3, 2, 3))
    torch.testing.assert_close(moved[1, 2, 3], codes["z"][1] + (3 * 3 * ways.vectors[2]).view(2, 3))


def test_leakage_of_a_perfect_encoder_is_the_angle_between_directions() -> None:
    ways = directions(Z)
    found = leakage(Mirror(), {"z": normal(4, 2, 3)}, ways, Z, 1.5)
    expected = ways.vectors @ ways.vectors.T * ways.scales[:, None] / ways.scales
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_change_rates_count_changed_classes() -> None:
    ways = replace(directions(Z, 2), vectors=torch.eye(6)[:2], scales=torch.ones(2))
    codes = {"z": torch.tensor([[0.5, 3.0, 0, 0, 0, 0], [5.0, 9.0, 0, 0, 0, 0]]).view(2, 2, 3)}

    def classify(images: Tensor) -> dict[str, Tensor]:
        first = images.flip(3).flatten(1)
        return {"sign": first[:, 0] > 0, "large": first[:, 1] > 4, "nothing": torch.zeros(len(first))}

    found = change_rates(Mirror(), codes, ways, Z, 2.0, classify)
    assert found.tolist() == [[0.25, 0, 0], [0, 0.25, 0]]
