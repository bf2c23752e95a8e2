"""Checkpoints of the widely used VQ-VAE-2 and its priors, opened as runs."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anamorph.cli.main import main
from anamorph.core.errors import UserError
from anamorph.core.model import Encodes, HasPrior
from anamorph.interop.import_pixelsnail import read_priors, tensor_targets
from anamorph.interop.import_vqvae2 import read_vqvae2
from anamorph.models.autoregressive.pixelsnail import PixelSNAIL, PixelSNAILConfig
from anamorph.models.two_stage import ChainedPrior, TwoStageModel
from anamorph.runs import load
from commands import fails
from reference import committed


def state() -> dict[str, Tensor]:
    tensors = committed("vqvae2_gray").tensors
    return {name.removeprefix("state."): t for name, t in tensors.items() if name.startswith("state.")}


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """An imported VQ-VAE-2 of 16x24 images, as several processes save it."""
    torch.save(OrderedDict({f"module.{name}": t for name, t in state().items()}), tmp_path / "vqvae.pt")
    out = tmp_path / "first"
    assert main(["import", "vqvae2", str(tmp_path / "vqvae.pt"), "--size", "16x24", "--out", str(out)]) == 0
    return out


def prior_files(folder: Path, first: Path) -> tuple[list[Path], list[PixelSNAIL]]:
    """Checkpoints of priors for its codes, as the original writes them, and what they should compute."""
    model = load(first)
    torch.manual_seed(0)
    coarse = PixelSNAILConfig(width=16, residual_channels=6, kernel_size=3, blocks=1, residual_blocks=1, attention_heads=8)
    fine = PixelSNAILConfig(
        width=8,
        residual_channels=6,
        kernel_size=3,
        blocks=2,
        residual_blocks=1,
        attention_max_positions=0,
        condition_channels=4,
        condition_blocks=1,
    )
    top, bottom = model.spaces
    nets = [PixelSNAIL([top], [], coarse), PixelSNAIL([bottom], [top], fine)]
    paths = [folder / "top.pt", folder / "bottom.pt"]
    for path, net in zip(paths, nets, strict=True):
        tensors = {name: place.target.detach().clone() for name, place in tensor_targets(net).items()}
        tensors["background"] = net.position
        torch.save({"model": tensors, "args": argparse.Namespace(lr=3e-4, hier="top")}, path)
    return paths, nets


@torch.no_grad()
def test_a_checkpoint_gives_the_codes_and_images_of_the_original(tmp_path: Path) -> None:
    t = committed("vqvae2_gray").tensors
    torch.save(state(), tmp_path / "vqvae.pt")
    imported = read_vqvae2(tmp_path / "vqvae.pt", tuple(t["input.x"].shape[2:]))  # type: ignore[arg-type]
    assert isinstance(imported.model, Encodes)
    codes = imported.model.encode(t["input.x"])
    assert torch.equal(codes["top"].squeeze(1), t["output.id_t"])
    assert torch.equal(codes["bottom"].squeeze(1), t["output.id_b"])
    torch.testing.assert_close(imported.model.decode(codes), t["output.decode_code"], atol=1e-4, rtol=0)
    assert read_vqvae2(tmp_path / "vqvae.pt").image.shape == (1, 256, 256)


def test_priors_of_its_codes_draw_and_are_trained_further(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, nets = prior_files(tmp_path, first)
    run = str(tmp_path / "prior")
    words = ["import", "pixelsnail", *map(str, paths), "--codes-of", str(first), "--out", run]
    assert main(words) == 0
    model = load(run)
    assert isinstance(model, TwoStageModel)
    assert isinstance(model, HasPrior)
    codes = {s.name: torch.randint(s.num_codes or 0, (3, *s.shape)) for s in model.spaces}
    assert isinstance(model.prior, ChainedPrior)
    wanted = sum((net.log_prob(codes, codes) for net in nets), torch.zeros(3))
    torch.testing.assert_close(model.code_log_prob(codes), wanted.detach(), atol=1e-3, rtol=1e-5)
    assert main(["sample", run, "--n", "2", "--top-k", "5"]) == 0
    assert main(["resume", run, "--images", "16", "--source", "digits"]) == 0
    fails(["import", "pixelsnail", str(paths[0]), "--codes-of", str(first), "--out", run + "2"], "name a file for each", capsys)
    swapped = ["import", "pixelsnail", str(paths[1]), str(paths[0]), "--codes-of", str(first), "--out", run + "2"]
    fails(swapped, "give the files in the order top, bottom", capsys)
    fails(["import", "pixelsnail", *map(str, paths), "--out", run + "2"], "give it with pixelsnail", capsys)
    fails(["import", "vqvae2", *map(str, paths), "--out", run + "2"], "vqvae2 is imported from one file", capsys)
    fails(["import", "alae", str(paths[0]), "--size", "8", "--out", run + "2"], "--size is for vqvae2", capsys)
    fails(["import", "vqvae2", str(paths[0]), "--out", run + "2"], "holds no state dict", capsys)


def test_spoiled_checkpoints_are_opened_or_refused_and_nothing_else(first: Path, tmp_path: Path) -> None:
    random, path, refused = np.random.default_rng(0), tmp_path / "file.pt", 0
    paths, (top, _) = prior_files(tmp_path, first)
    whole = [state(), {name: place.target.detach() for name, place in tensor_targets(top).items()}]
    for turn in range(60):
        tree: dict[str, Any] = dict(whole[turn % 2])
        name = list(tree)[random.integers(len(tree))]
        spoil = [
            lambda t: t[:1].repeat(3, *[1] * (t.dim() - 1)),
            lambda t: t.flatten(),
            lambda t: t * float("nan"),
            lambda _: 3,
        ]
        if turn % 5:
            tree[name] = spoil[turn % 4](tree[name] if tree[name].dim() else torch.ones(1))
        else:
            del tree[name]
        torch.save(tree, path)
        try:
            read_vqvae2(path) if turn % 2 == 0 else read_priors([path, paths[1]], str(first))
        except UserError:  # anything else fails the test
            refused += 1
    assert refused > 40
