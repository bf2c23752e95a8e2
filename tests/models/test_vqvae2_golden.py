"""VQ-VAE-2 against the reference implementation: codes, reconstructions, losses, gradients and training steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from anamorph.core.random import Seeded
from anamorph.core.signal import Batch, Image
from anamorph.core.stage import Stage
from anamorph.interop.import_vqvae2 import _sizes, tensor_targets
from anamorph.interop.load_tensors import TensorTarget, load_tensors
from anamorph.models.quantized.vqvae2 import VQVAE2, recipe
from anamorph.training.gradients import compute_gradients, route
from anamorph.training.run import ComputeSettings
from reference import Case, committed, full

ATOL = 1e-4  # five times the suggested 2e-5
LOADERS = pytest.mark.parametrize(
    ("load", "name"), [(committed, "vqvae2_gray"), (full, "vq/vqvae2_rosinality"), (full, "vq/vqvae2_rosinality_gray")]
)


def model_of(case: Case) -> VQVAE2:
    x = case.tensors["input.x"]
    state = {name.removeprefix("state."): t for name, t in case.tensors.items() if name.startswith("state.")}
    _, config = _sizes("the case", state, tuple(x.shape[2:]))  # type: ignore[arg-type]
    model = VQVAE2(Image(x.shape[1], *x.shape[2:]), replace(config, learning_rate=3e-4))
    load_tensors(tensor_targets(model), state, "the case")
    return model


def own(value: torch.Tensor, place: TensorTarget) -> torch.Tensor:
    """A tensor of the case, converted to ours."""
    found = place.converted(value)
    assert found is not None
    return found


@LOADERS
def test_codes_reconstructions_and_losses_agree(load: Any, name: str) -> None:
    case = load(name)
    model, t = model_of(case), case.tensors
    codes = model.encode(t["input.x"])
    assert torch.equal(codes["top"].squeeze(1), t["output.id_t"])
    assert torch.equal(codes["bottom"].squeeze(1), t["output.id_b"])
    case.close(model.decode(codes), "output.decode_code", ATOL)
    found = model.quantize(t["input.x"])
    case.close(model.decode_vectors([q.vectors for q in found]), "output.dec", ATOL)
    case.close(torch.stack([q.commitment_loss for q in found]).sum().view(1), "output.diff", ATOL)
    random = {"top": t["input.random_code_t"].unsqueeze(1), "bottom": t["input.random_code_b"].unsqueeze(1)}
    case.close(model.decode(random), "output.decode_random_codes", ATOL)


@LOADERS
def test_running_codebooks_agree(load: Any, name: str) -> None:
    """Two forward passes in training: losses belong to the codebook before its update."""
    case = load(name)
    model, t = model_of(case), case.tensors
    at = tensor_targets(model)
    for step in range(2):
        found = model.quantize(t["input.train_x"][step], Seeded(0, "unused"))
        case.close(torch.stack([q.commitment_loss for q in found]).sum().view(1), f"output.ema.step{step}.latent_loss", ATOL)
        for level in model.coarse_first:
            level.codebook.commit()
        for key in (f"quantize_{level}.{kind}" for level in "tb" for kind in ("embed", "cluster_size", "embed_avg")):
            expected = own(t[f"output.ema.step{step}.{key}"], at[key])
            torch.testing.assert_close(at[key].target, expected, atol=ATOL, rtol=1e-5)


@LOADERS
def test_two_training_steps_agree(load: Any, name: str) -> None:
    case = load(name)
    model, t = model_of(case), case.tensors
    training, at = recipe(model), tensor_targets(model)
    (phase,) = training.phases
    for step in range(2):
        outcome, found = compute_gradients(
            phase, Batch(t["input.train_x"][step]), Stage(0, 2), Seeded(0, "unused"), ComputeSettings()
        )
        case.close(outcome.total(), f"output.train.step{step}.loss", ATOL)
        if step == 0:
            mine = dict(zip(map(id, phase.parameters), found, strict=True))
            keys = [key for key in at if f"output.train.grad0.{key}" in t]
            assert keys
            for key in keys:
                expected = own(t[f"output.train.grad0.{key}"], at[key])
                torch.testing.assert_close(mine[id(at[key].target)], expected, atol=ATOL, rtol=1e-4, msg=key)
        for adam, its in route(training, phase, found):
            adam.step(its, 1.0, training.missing_gradient)
        for commit in phase.commit:
            commit()
    after = [key for key in at if f"output.train.final.{key}" in t]
    assert after
    for key in after:
        torch.testing.assert_close(at[key].target, own(t[f"output.train.final.{key}"], at[key]), atol=ATOL, rtol=1e-4, msg=key)
