"""How alike images are: against another implementation, and in cases that can be counted out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.metrics.reconstruction import psnr_db, ssim


def pair(n: int = 4, shape: tuple[int, int, int] = (3, 17, 23)) -> tuple[Tensor, Tensor]:
    """Smooth images, and noisy ones of them, from hardly to very."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, *shape, generator=generator).cumsum(3).sin()
    noise = torch.randn(n, *shape, generator=generator) * torch.linspace(0.01, 1, n)[:, None, None, None]
    return x, (x + noise).clamp(-1, 1)


def test_ssim_is_that_of_torchmetrics() -> None:
    image = pytest.importorskip("torchmetrics.functional.image")
    x, y = pair()
    settings = {"gaussian_kernel": True, "sigma": 1.5, "data_range": 2.0, "reduction": "none", "return_full_image": True}
    _, places = image.structural_similarity_index_measure(x.double(), y.double(), **settings)
    wanted = places[..., 5:-5, 5:-5].flatten(1).mean(1)  # without those whose window goes over the edge
    torch.testing.assert_close(ssim(x, y), wanted, atol=1e-6, rtol=1e-6)
    assert wanted.max() > 0.9
    assert wanted.min() < 0.5


def test_ssim_of_flat_images_is_counted_out() -> None:
    """Equation 13 without variances: (2ab + C1) / (a^2 + b^2 + C1), C1 = (0.01 * 2)^2."""
    x, y = torch.full((1, 1, 11, 11), 0.5), torch.full((1, 1, 11, 11), -0.25)
    assert float(ssim(x, y)) == pytest.approx((2 * 0.5 * -0.25 + 4e-4) / (0.25 + 0.0625 + 4e-4), rel=1e-6)


def test_ssim_is_one_for_equal_images_symmetric_and_falls_with_noise() -> None:
    x, y = pair()
    assert torch.allclose(ssim(x, x), torch.ones(4, dtype=torch.float64))
    assert torch.allclose(ssim(x, y), ssim(y, x))
    assert (ssim(x, y).diff() < 0).all()


def test_ssim_of_images_smaller_than_its_window_is_refused() -> None:
    with pytest.raises(UserError, match="at least 11x11"):
        ssim(torch.zeros(1, 1, 10, 20), torch.zeros(1, 1, 10, 20))


def test_psnr_is_of_each_image() -> None:
    x = torch.zeros(2, 1, 4, 4)
    y = torch.stack([torch.full((1, 4, 4), 0.2), torch.zeros(1, 4, 4)])
    assert psnr_db(y, x).tolist() == [pytest.approx(20.0, abs=1e-4), math.inf]
