"""Path length: the official arithmetic, and a linear generator, whose path length has a closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.model import HasMapping, Noise, Samples, UnsupportedOperation
from anamorph.core.random import Random, Replay, Seeded
from anamorph.core.signal import Image
from anamorph.core.space import Codes, Space
from anamorph.metrics.path_length import PathLengthSettings, face_crop, path_length, slerp, summary, to_viewing_size
from reference import committed
from small import make_run


def squared(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().flatten(1).sum(1)


class Linear(HasMapping):
    """w = 2 z, x = w A."""

    signal = Image(1, 2, 3)
    spaces = (Space("w", (4,)),)
    z_space = Space("z", (4,))

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))

    @property
    def w_mean(self) -> Codes:
        return {"w": torch.zeros(4, dtype=torch.float64)}

    def map(self, z: Tensor, labels: object = None) -> Codes:
        return {"w": 2 * z}

    def sample_codes(self, n: int, random: Random, labels: object = None) -> Codes:
        return self.map(random.normal(n, 4))

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        assert noise == "fixed"
        return (codes["w"].double() @ self.get_buffer("matrix")).view(-1, 1, 2, 3)


def test_golden_arc_crop_and_mean() -> None:
    case = committed("metrics")
    values, z0, z1, t = case.facts["values"], *(case.tensors[f"ppl.{name}"] for name in ("z0", "z1", "t"))
    case.close(slerp(z0, z1, t), "ppl.slerp_t", atol=1e-6)
    z0, z1, t = z0.double(), z1.double(), t.double()
    moved = squared(slerp(z0, z1, t), slerp(z0, z1, t + 1e-4)) / 1e-8
    assert moved.tolist() == pytest.approx(values["ppl_slerp_eps_dist2_float64"], rel=1e-6)
    assert torch.equal(face_crop(case.tensors["ppl.image"]), case.tensors["ppl.crop"])
    found = summary(case.tensors["ppl.distances"])
    assert found.mean == pytest.approx(values["ppl_filtered_mean"], rel=1e-6)
    assert (found.kept, found.low, found.high) == (values["ppl_kept"], *values["ppl_lo_hi"])


def test_a_line_through_a_linear_generator_has_the_length_of_its_ends() -> None:
    model, n = Linear(), 50
    z, t = torch.randn(2 * n, 4, dtype=torch.float64), torch.rand(n, dtype=torch.float64)
    spec = PathLengthSettings("w", epsilon=1e-3, crop=False, lowest=0, highest=100)
    found = path_length(model, squared, n, Replay([z, t]), spec)
    wanted = squared(2 * z[0::2] @ model.get_buffer("matrix"), 2 * z[1::2] @ model.get_buffer("matrix"))
    torch.testing.assert_close(found.distances, wanted)
    assert found.mean == pytest.approx(float(wanted.mean()))
    assert found.kept == n


def test_an_arc_has_the_length_of_its_angle() -> None:
    model, n = Linear(), 40
    model.get_buffer("matrix").copy_(torch.eye(4, 6))
    z = torch.randn(2 * n, 4, dtype=torch.float64)
    spec = PathLengthSettings("z", "end", crop=False, lowest=0, highest=100)
    found = path_length(model, squared, n, Replay([z, torch.rand(n, dtype=torch.float64)]), spec)
    angle = torch.acos(torch.nn.functional.cosine_similarity(z[0::2], z[1::2]))
    torch.testing.assert_close(found.distances, 4 * 4 * angle**2, rtol=1e-5, atol=1e-9)  # w = 2 z, at length 2


def test_the_end_is_the_beginning_of_the_path() -> None:
    class Watching(Linear):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[Tensor] = []

        def _decode(self, codes: Codes, noise: Noise) -> Tensor:
            self.seen.append(codes["w"])
            return super()._decode(codes, noise)

    model, z = Watching(), torch.randn(20, 4, dtype=torch.float64)
    path_length(
        model, squared, 10, Replay([z, torch.rand(10, dtype=torch.float64)]), PathLengthSettings("w", "end", crop=False)
    )
    torch.testing.assert_close(model.seen[0], 2 * z[0::2])
    torch.testing.assert_close(model.seen[1], 2 * (z[0::2] + 1e-4 * (z[1::2] - z[0::2])))


def test_large_images_are_averaged_and_small_ones_are_whole() -> None:
    x = torch.randn(1, 1, 600, 600)
    assert to_viewing_size(x).shape == (1, 1, 300, 300)
    torch.testing.assert_close(to_viewing_size(x)[0, 0, 0, 0], x[0, 0, :2, :2].mean())
    assert to_viewing_size(x[..., :400, :]).shape == (1, 1, 400, 600)
    assert face_crop(x[..., :6, :]).shape == (1, 1, 6, 600)


@pytest.mark.parametrize("case", ["stylegan", "alae", "alae-eta", "vae", "gan", "stylealae"])
def test_models_that_draw_have_one_in_either_space(case: str) -> None:
    model = make_run(case).model.eval()
    assert isinstance(model, Samples)
    for space in ("z", "w"):
        for sampling in ("full", "end"):
            found = path_length(model, squared, 5, Seeded(0), PathLengthSettings(space, sampling))
            assert math.isfinite(found.mean)
            assert found.mean > 0


def test_what_has_no_path_is_refused() -> None:
    with pytest.raises(UnsupportedOperation, match="a path length needs a model that samples"):
        path_length(make_run("autoencoder").model, squared, 5, Seeded(0))
    with pytest.raises(UserError, match="1 pairs are too few"):
        path_length(Linear(), squared, 1, Seeded(0))
    with pytest.raises(UserError, match="not finite"):
        path_length(Linear(), lambda a, b: squared(a, b) * math.nan, 5, Seeded(0))
    with pytest.raises(UserError, match="0 < epsilon < 1"):
        PathLengthSettings(epsilon=0)
