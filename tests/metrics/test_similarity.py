"""Likeness of images: against torchmetrics and scikit-image's definition by hand, and what must hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.metrics.similarity import feature_distance, ms_ssim, mse, psnr_db, ssim


def pictures(n: int = 3, height: int = 24, width: int = 19, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.interpolate(torch.rand(n, 3, 6, 5, generator=generator) * 2 - 1, (height, width), mode="bicubic").clamp(-1, 1)


def by_hand(a: Tensor, b: Tensor) -> float:
    """Equation 13 at every place where the window fits, one place after another."""
    window = np.exp(-((np.arange(11) - 5) ** 2) / 4.5)
    window = np.outer(window, window) / window.sum() ** 2
    found = []
    for x, y in zip(a.double().numpy(), b.double().numpy(), strict=True):
        for i in range(x.shape[0] - 10):
            for j in range(x.shape[1] - 10):
                p, q = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
                mean_p, mean_q = (window * p).sum(), (window * q).sum()
                var_p, var_q = (window * (p - mean_p) ** 2).sum(), (window * (q - mean_q) ** 2).sum()
                both = (window * (p - mean_p) * (q - mean_q)).sum()
                c1, c2 = 0.02**2, 0.06**2
                top = (2 * mean_p * mean_q + c1) * (2 * both + c2)
                found.append(top / ((mean_p**2 + mean_q**2 + c1) * (var_p + var_q + c2)))
    return float(np.mean(found))


def test_ssim_by_hand() -> None:
    a, b = pictures(), (pictures() * 0.7 + 0.2 * torch.randn(3, 3, 24, 19)).clamp(-1, 1)
    assert ssim(a.double(), b.double()).tolist() == pytest.approx([by_hand(x, y) for x, y in zip(a, b, strict=True)])


def test_ssim_and_ms_ssim_are_torchmetrics() -> None:
    functional = pytest.importorskip("torchmetrics.functional.image", reason="pip install torchmetrics to compare with it")
    a = pictures(1, 177, 180).double()
    b = (a + 0.3 * torch.randn(a.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).clamp(-1, 1)
    compare = functional.structural_similarity_index_measure
    _, everywhere = compare(a, b, data_range=2.0, reduction="none", return_full_image=True)
    within = everywhere[..., 5:-5, 5:-5].mean((1, 2, 3))  # it mirrors borders, and takes them in
    torch.testing.assert_close(ssim(a, b), within, atol=1e-8, rtol=0)
    wanted, x, y = torch.ones(1, dtype=torch.float64), a, b
    for weight in (0.0448, 0.2856, 0.3001, 0.2363):
        wanted *= compare(x, y, data_range=2.0, reduction="none", return_contrast_sensitivity=True)[1] ** weight
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    torch.testing.assert_close(ms_ssim(a, b), wanted * ssim(x, y) ** 0.1333, atol=1e-8, rtol=0)
    whole = functional.multiscale_structural_similarity_index_measure(a, b, data_range=2.0, reduction="none")
    torch.testing.assert_close(ms_ssim(a, b), whole, atol=5e-3, rtol=0)


def test_equal_images_are_alike_and_noise_makes_them_less_so() -> None:
    a = pictures(2, 176, 176)
    noise = torch.randn(a.shape, generator=torch.Generator().manual_seed(1))
    for measure in (ssim, ms_ssim):
        assert measure(a, a).tolist() == pytest.approx([1, 1])
        levels = [float(measure(a, a + s * noise).mean()) for s in (0.05, 0.2, 0.8)]
        assert 1 > levels[0] > levels[1] > levels[2]
    assert float(ms_ssim(a, -a).max()) == 0


def test_squares_and_decibels() -> None:
    a, b = torch.zeros(2, 1, 4, 4), torch.full((2, 1, 4, 4), 0.2)
    assert mse(a, b).tolist() == pytest.approx([0.04, 0.04])
    assert psnr_db(a, b).tolist() == pytest.approx([20, 20])
    assert psnr_db(a, a).tolist() == [float("inf")] * 2


def test_feature_distance_is_relative() -> None:
    a, b = torch.randn(4, 6), torch.randn(4, 6)
    torch.testing.assert_close(feature_distance(a, b), feature_distance(5 * a, 5 * b))
    assert feature_distance(a, a).tolist() == [0] * 4
    assert feature_distance(a, -a).mean() == pytest.approx(4)


def test_bad_images_are_refused() -> None:
    a = pictures(1, 20, 8)
    with pytest.raises(UserError, match="20x8 are too small for a window of 11 pixels: at least 11x11"):
        ssim(a, a)
    with pytest.raises(UserError, match="over 5 scales; use fewer scales, or ssim: at least 176x176"):
        ms_ssim(a, a)
    with pytest.raises(UserError, match="1 to 5 scales"):
        ms_ssim(a, a, 6)
    with pytest.raises(UserError, match="wanted two batches"):
        mse(a, a[:, :1])
