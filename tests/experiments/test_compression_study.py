"""What the experiment on compression counts."""

from __future__ import annotations

import itertools
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image as Pillow

from anamorph.catalog import build, build_with_prior
from anamorph.core.files import read_json
from anamorph.core.model import Encodes
from anamorph.core.signal import Image
from anamorph.figures.rates import RatePoint, save_rates
from anamorph.models.autoregressive.pixelcnn import PixelCNNConfig
from anamorph.models.quantized.vqvae import VQVAEConfig
from anamorph.training.autotune import ComputeRequest
from experiments import compression
from experiments.compression import QUALITIES, as_stored, header_bytes, measured, other_codec
from experiments.tokens import Stage, Tokens


def images(n: int = 20) -> torch.Tensor:
    """Smooth grey images."""
    generator = torch.Generator().manual_seed(0)
    return as_stored(torch.rand(n, 1, 28, 28, generator=generator).cumsum(2).cumsum(3).mul(0.05).sin())


def test_a_model_costs_what_its_law_says_and_comes_back_exactly() -> None:
    first, _ = build(
        "vqvae",
        Image(1, 28, 28),
        VQVAEConfig(width=8, residual_blocks=1, residual_channels=5, num_embeddings=16, embedding_dim=4),
        0,
    )
    assert isinstance(first, Encodes)
    model, _ = build_with_prior("pixelcnn", first, PixelCNNConfig(width=8, layers=2, head_channels=8), 0)
    model.requires_grad_(False).eval()
    found, again = measured(model, images())
    assert found.exact == len(again) == 20
    assert found.raw_bytes == 20 * 49 * 4 / 8
    assert found.together_payload_bytes == pytest.approx(found.ideal_bytes, rel=0.01)
    assert found.ideal_bytes <= found.single_payload_bytes <= found.ideal_bytes + 20 * 1.2
    assert found.single_bytes == found.single_payload_bytes + 20 * 30
    assert 0 < found.together_bytes - found.together_payload_bytes < 40


@pytest.mark.parametrize("kind", ["JPEG", "WebP"])
def test_other_codecs_cost_more_and_keep_more_with_quality(kind: str) -> None:
    kept = [other_codec(images(), kind, quality) for quality in (5, 50, 95)]
    for worse, better in itertools.pairwise(kept):
        assert worse.bits < better.bits
        assert worse.psnr_db < better.psnr_db
        assert worse.ssim < better.ssim
    assert all(0 < one.bare_bits < one.bits for one in kept)
    assert sorted(QUALITIES) == list(QUALITIES)


def test_a_header_is_what_does_not_grow_with_the_image() -> None:
    for kind in ("JPEG", "WEBP"):
        found = []
        for side in (16, 64):
            stream = BytesIO()
            noise = torch.randint(0, 256, (side, side), generator=torch.Generator().manual_seed(0)).byte()
            Pillow.fromarray(noise.numpy()).save(stream, kind, quality=50)
            found.append((header_bytes(stream.getvalue()), len(stream.getvalue())))
        (small, less), (large, more) = found
        assert small == large < less < more


def test_rates_are_drawn(tmp_path: Path) -> None:
    curve = [RatePoint(3.0, 0.5, 20.0, 0.7), RatePoint(4.0, 1.5, 30.0, 0.95)]
    save_rates(tmp_path / "rates.png", {"JPEG": curve, "WebP": curve}, {"ours": RatePoint(0.5, 0.2, 20.0, 0.7)}, "a title")
    with Pillow.open(tmp_path / "rates.png") as picture:
        assert picture.size == (1040, 480)


def test_the_study_trains_compresses_and_writes_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "MEASURED", 9)
    monkeypatch.setattr(compression, "QUALITIES", (5, 50))
    first = Stage(
        "vqvae", VQVAEConfig(width=8, residual_blocks=1, residual_channels=5, num_embeddings=16, embedding_dim=4), 32, 16
    )
    study = {
        "one code per 4x4 pixels": Tokens(
            "shapes", first, Stage("pixelcnn", PixelCNNConfig(width=8, layers=1, head_channels=8), 32, 16), (16, 16)
        )
    }
    told: list[str] = []
    assert compression.compression_study(study, tmp_path, ComputeRequest("cpu", "float32", 1, False), told.append)
    facts = read_json(tmp_path / "results.json")
    assert facts["models"]["one code per 4x4 pixels"]["exact"] == 9
    assert [len(curve) for curve in facts["codecs"].values()] == [2, 2]
    text = (tmp_path / "results.md").read_text()
    assert "| one code per 4x4 pixels | 8.00 |" in text
    assert "| JPEG, quality 50 |" in text
    for name in ("rates.png", "compressed.png"):
        with Pillow.open(tmp_path / name) as picture:
            assert min(picture.size) > 100
    assert not compression.compression_study(
        study, tmp_path / "other", ComputeRequest("cpu", "float32", 1, False), told.append, stop=lambda: True
    )
