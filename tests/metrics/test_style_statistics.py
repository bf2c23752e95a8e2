"""What moves the statistics of images' features, by hand."""

from __future__ import annotations

import pytest
import torch

from anamorph.metrics.style_statistics import moved, pattern_features, statistics


def test_statistics_by_hand() -> None:
    maps = [torch.tensor([[[[1.0, 3.0]], [[0.0, 2.0]]]])]
    found = statistics(maps)
    assert found["mean"].tolist() == [[2.0, 1.0]]
    assert found["variance"].tolist() == [[1.0, 1.0]]
    assert found["Gram matrix"].tolist() == [[5.0, 3.0, 3.0, 2.0]]


def test_pattern_features_see_slopes_and_nothing_in_a_flat_image() -> None:
    flat = pattern_features(torch.full((1, 1, 16, 16), 0.5))
    assert [tuple(x.shape) for x in flat] == [(1, 6, 16, 16), (1, 6, 8, 8)]
    torch.testing.assert_close(flat[0][:, 0], torch.full((1, 16, 16), 0.5))
    assert float(flat[0][:, 1:].abs().max()) < 1e-6
    ramp = torch.arange(16.0).expand(1, 2, 16, 16)
    across = pattern_features(ramp)[0].view(1, 2, 6, 16, 16)[0, :, :, 4:-4, 4:-4]
    assert float(across[:, 1].abs().max()) < 1e-5  # down
    assert float((across[:, 2] - across[0, 2, 0, 0]).abs().max()) < 1e-5
    assert float(across[0, 2, 0, 0]) > 0.5
    assert float(across[:, 3:].abs().max()) < 1e-5


def test_nothing_is_moved_by_no_change_and_as_much_as_another_image_by_another_image() -> None:
    images = torch.rand(32, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.1, 1, 32).view(
        -1, 1, 1, 1
    )
    found = moved(images, {"nothing": images, "another": images.roll(1, 0), "brighter": images + 0.3})
    assert set(found["nothing"].values()) == {0.0}
    assert all(value == pytest.approx(1) for value in found["another"].values())
    assert found["brighter"]["variance"] < 1e-3 < found["brighter"]["mean"]
