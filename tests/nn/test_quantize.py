"""Quantisers against reference implementations, and their properties."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anamorph.core.random import Seeded
from anamorph.nn.quantize import KMEANS_STEPS, Codebook, FiniteScalarQuantizer, ResidualQuantizer, perplexity
from reference import Case, committed

ATOL = 5e-5  # five times the suggested 1e-5


def learning() -> Seeded:
    return Seeded(0, "quantise")


def near(got: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(got.detach(), expected, atol=ATOL, rtol=1e-5)


def columns(case: Case, **settings: Any) -> Codebook:
    """A codebook with a case's state, in which codes are columns."""
    t, c = case.tensors, case.facts["config"]
    codebook = Codebook(c["n_embed"], c["dim"], decay=c["decay"], smoothing=c["eps"], **settings)
    codebook.vectors.copy_(t["state.embed"].t())
    codebook.counts.copy_(t["state.cluster_size"])
    codebook.sums.copy_(t["state.embed_avg"].t())
    return codebook


@pytest.mark.parametrize("name", ["quantize_warm", "quantize_cold"])
def test_moving_averages_agree(name: str) -> None:
    """From the reference's counts, also from zero, where unused vectors diverge."""
    case = committed(name)
    codebook, t = columns(case), case.tensors
    for step in range(2):
        z = t["input.x"][step].clone().requires_grad_()
        output = codebook(z, learning())
        assert torch.equal(output.ids, t[f"output.step{step}.ind"])
        near(output.vectors, t[f"output.step{step}.quantize"])
        near(output.commitment_loss, t[f"output.step{step}.diff"])
        ((output.vectors * t["input.grad_weight"]).sum() + 0.25 * output.commitment_loss).backward()
        assert z.grad is not None
        near(z.grad, t[f"output.step{step}.grad_input"])
        codebook.commit()
        torch.testing.assert_close(codebook.vectors.t(), t[f"output.step{step}.embed"], atol=ATOL, rtol=1e-4)
        near(codebook.counts, t[f"output.step{step}.cluster_size"])
        near(codebook.sums.t(), t[f"output.step{step}.embed_avg"])
    assert torch.equal(codebook(t["input.x"][2]).ids, t["output.eval.ind"])


def test_counts_that_begin_at_one_do_not_blow_up() -> None:
    """With counts of zero at the start, as in the first implementations, most vectors are lost in the first step."""
    case = committed("quantize_cold")
    z = case.tensors["input.x"][0]
    from_zero = columns(case)
    mine = columns(case)
    mine.counts.fill_(1.0)
    for codebook in (from_zero, mine):
        codebook(z, learning())
        codebook.commit()
    assert float(from_zero.vectors.abs().max()) > 1e4
    assert float(mine.vectors.norm(dim=1).max()) < 1.05 * float(case.tensors["state.embed"].norm(dim=0).max())


def test_moving_averages_of_smaller_decay_agree() -> None:
    case = committed("quantize_fast")
    t, c = case.tensors, case.facts["config"]
    codebook = Codebook(c["codebook_size"], c["dim"], decay=c["decay"])
    codebook.vectors.copy_(t["state._codebook.embed"][0])
    codebook.counts.copy_(t["state._codebook.cluster_size"][0])
    codebook.sums.copy_(t["state._codebook.embed_avg"][0])
    for step in range(2):
        z = t["input.x"][step].clone().requires_grad_()
        output = codebook(z, learning())
        assert torch.equal(output.ids, t[f"output.step{step}.indices"])
        near(output.vectors, t[f"output.step{step}.quantize"])
        near(output.commitment_loss, t[f"output.step{step}.commit_loss"])
        ((output.vectors * t["input.grad_weight"]).sum() + output.commitment_loss).backward()
        assert z.grad is not None
        near(z.grad, t[f"output.step{step}.grad_input"])
        codebook.commit()
        near(codebook.vectors, t[f"output.step{step}._codebook.embed"][0])
        near(codebook.counts, t[f"output.step{step}._codebook.cluster_size"][0])
        near(codebook.sums, t[f"output.step{step}._codebook.embed_avg"][0])


def test_a_codebook_that_learns_by_gradient_agrees() -> None:
    case = committed("quantize_loss")
    t, c = case.tensors, case.facts["config"]
    codebook = Codebook(c["num_embeddings"], c["embedding_dim"], "gradient")
    codebook.vectors.data.copy_(t["state.embeddings"].t())
    z = t["input.inputs"].clone().requires_grad_()
    output = codebook(z)
    assert torch.equal(output.ids, t["output.encoding_indices"])
    near(output.vectors, t["output.quantize"])
    near(output.commitment_loss, t["output.e_latent_loss"])
    near(output.codebook_loss, t["output.q_latent_loss"])
    loss = output.codebook_loss + c["commitment_cost"] * output.commitment_loss
    near(loss, t["output.loss"])
    ((output.vectors * t["input.grad_weight"]).sum() + loss).backward()
    assert z.grad is not None
    assert codebook.vectors.grad is not None
    near(z.grad, t["output.grad_inputs"])
    near(codebook.vectors.grad.t(), t["output.grad_embeddings"])
    near(perplexity(torch.bincount(output.ids.flatten(), minlength=c["num_embeddings"]).float()), t["output.perplexity"])


def test_finite_scalars_agree() -> None:
    case = committed("finite_scalar")
    t = case.tensors
    quantizer = FiniteScalarQuantizer(case.facts["config"]["levels"])
    output = quantizer(t["input.x"])
    near(output.vectors, t["output.quantize"])
    assert torch.equal(output.ids, t["output.indices"].long())
    near(quantizer.lookup(output.ids), t["output.codes_from_indices"])
    near(quantizer.lookup(torch.arange(quantizer.num_embeddings)), t["output.implicit_codebook"])


@pytest.mark.parametrize("levels", [(8, 5, 5), (2, 3), (4,), (7, 6, 2, 3)])
def test_finite_scalars_return_from_their_ids(levels: tuple[int, ...]) -> None:
    quantizer = FiniteScalarQuantizer(levels)
    ids = torch.arange(quantizer.num_embeddings)
    vectors = quantizer.lookup(ids)
    assert len(vectors.unique(dim=0)) == quantizer.num_embeddings
    output = quantizer(torch.randn(5000, len(levels), generator=torch.Generator().manual_seed(0)) * 3)
    near(quantizer.lookup(output.ids), output.vectors)
    assert len(output.ids.unique()) > quantizer.num_embeddings // 2


def test_the_nearest_is_the_nearest_and_the_first_of_equals() -> None:
    generator = torch.Generator().manual_seed(1)
    codebook = Codebook(700, 5)
    z = torch.randn(30, 101, 5, generator=generator)  # several tiles of the search
    expected = torch.cdist(z.double(), codebook.vectors.double().expand(30, -1, -1)).argmin(-1)
    assert torch.equal(codebook.nearest(z), expected)
    codebook.vectors[500:] = codebook.vectors[100:300]
    assert int(codebook.nearest(z).max()) < 500


def test_each_residual_stage_decreases_the_error() -> None:
    generator = torch.Generator().manual_seed(1)
    quantizer = ResidualQuantizer([Codebook(64, 3) for _ in range(3)])
    z = torch.randn(4, 50, 3, generator=generator)
    for stage in quantizer.stages:
        assert isinstance(stage, Codebook)
        stage.vectors[0] = 0  # so that a stage can at least keep the residual
    output = quantizer(z)
    assert output.ids.shape == (3, 4, 50)
    near(quantizer.lookup(output.ids), output.vectors)
    errors = [float((z - quantizer.stages[0].lookup(output.ids[0])).square().mean())]
    for stages in (2, 3):
        part = sum((s.lookup(i) for s, i in zip(quantizer.stages[:stages], output.ids, strict=False)), torch.zeros(()))
        errors.append(float((z - part).square().mean()))
    assert errors[0] > errors[1] > errors[2] > 0


def blobs(k: int = 12, n: int = 600) -> torch.Tensor:
    """Points around k centres, far from initial codebooks."""
    generator = torch.Generator().manual_seed(2)
    centres = 20 + 10 * torch.randn(k, 2, generator=generator)
    return centres[torch.arange(n) % k] + 0.1 * torch.randn(n, 2, generator=generator)


@pytest.mark.parametrize(
    "settings", [{"kmeans_init": True}, {"restart_threshold": 0.1}, {"kmeans_init": True, "update": "gradient"}]
)
def test_no_code_stays_unused(settings: Any) -> None:
    z, codebook = blobs(), Codebook(12, 2, **settings)
    for step in range(300):
        codebook(z, Seeded(0, step))
        codebook.commit()
    output = codebook(z)
    counts = torch.bincount(output.ids, minlength=12)
    assert int((counts > 0).sum()) >= 10
    if settings.get("update") != "gradient":
        assert float(output.commitment_loss) < 1.0
    frozen = Codebook(12, 2)
    for step in range(300):
        frozen(z, Seeded(0, step))
        frozen.commit()
    assert int((torch.bincount(frozen(z).ids, minlength=12) > 0).sum()) < 6


def test_a_restarted_code_stays_restarted() -> None:
    """Count and sum are set with the vector, or the next commit would undo the restart."""
    codebook = Codebook(3, 2, restart_threshold=0.2)
    codebook.vectors[:] = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]])
    codebook.sums.copy_(codebook.vectors)
    z = torch.zeros(30, 2)
    for step in range(200):
        codebook(z, Seeded(0, step))
        codebook.commit()
    assert float(codebook.vectors.abs().max()) < 1e-3


def test_codebooks_change_only_at_a_commit_after_training_batches() -> None:
    codebook = Codebook(8, 3, kmeans_init=True, restart_threshold=0.1)
    before = {name: value.clone() for name, value in codebook.state_dict().items()}
    codebook(torch.randn(20, 3), learning())
    assert all(torch.equal(before[name], value) for name, value in codebook.state_dict().items())
    codebook.commit()
    assert not torch.equal(before["vectors"], codebook.vectors)
    assert int(codebook.age) == 1
    after = codebook.vectors.clone()
    codebook(torch.randn(20, 3))
    assert torch.equal(after, codebook.vectors)
    assert int(Codebook(8, 3).age) == KMEANS_STEPS


def test_distances_are_exact_in_low_precision() -> None:
    codebook = Codebook(64, 8)
    z = torch.randn(200, 8)
    with torch.autocast("cpu", torch.bfloat16):
        low = codebook(z)
    assert torch.equal(low.ids, codebook(z).ids)
    assert low.vectors.dtype == torch.float32
