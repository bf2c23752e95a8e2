"""Quantisers against reference implementations, and what they promise."""

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


def near(got: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(got.detach(), wanted, atol=ATOL, rtol=1e-5)


def columns(case: Case, **settings: Any) -> Codebook:
    """A codebook with a case's state, which keeps codes as columns."""
    t, c = case.tensors, case.facts["config"]
    book = Codebook(c["n_embed"], c["dim"], decay=c["decay"], smoothing=c["eps"], **settings)
    book.vectors.copy_(t["state.embed"].t())
    book.counts.copy_(t["state.cluster_size"])
    book.sums.copy_(t["state.embed_avg"].t())
    return book


@pytest.mark.parametrize("name", ["quantize_warm", "quantize_cold"])
def test_running_means_agree(name: str) -> None:
    """From the counts as they were: also from zero, where a vector that nothing chose flies off."""
    case = committed(name)
    book, t = columns(case), case.tensors
    for step in range(2):
        z = t["input.x"][step].clone().requires_grad_()
        found = book(z, learning())
        assert torch.equal(found.ids, t[f"output.step{step}.ind"])
        near(found.vectors, t[f"output.step{step}.quantize"])
        near(found.commitment_loss, t[f"output.step{step}.diff"])
        ((found.vectors * t["input.grad_weight"]).sum() + 0.25 * found.commitment_loss).backward()
        assert z.grad is not None
        near(z.grad, t[f"output.step{step}.grad_input"])
        book.commit()
        torch.testing.assert_close(book.vectors.t(), t[f"output.step{step}.embed"], atol=ATOL, rtol=1e-4)
        near(book.counts, t[f"output.step{step}.cluster_size"])
        near(book.sums.t(), t[f"output.step{step}.embed_avg"])
    assert torch.equal(book(t["input.x"][2]).ids, t["output.eval.ind"])


def test_counts_that_begin_at_one_do_not_blow_up() -> None:
    """The trap of the first implementations: a count of zero at the start, and most vectors are lost in the first step."""
    case = committed("quantize_cold")
    z = case.tensors["input.x"][0]
    trapped = columns(case)
    mine = columns(case)
    mine.counts.fill_(1.0)
    for book in (trapped, mine):
        book(z, learning())
        book.commit()
    assert float(trapped.vectors.abs().max()) > 1e4
    assert float(mine.vectors.norm(dim=1).max()) < 1.05 * float(case.tensors["state.embed"].norm(dim=0).max())


def test_running_means_that_forget_faster_agree() -> None:
    case = committed("quantize_fast")
    t, c = case.tensors, case.facts["config"]
    book = Codebook(c["codebook_size"], c["dim"], decay=c["decay"])
    book.vectors.copy_(t["state._codebook.embed"][0])
    book.counts.copy_(t["state._codebook.cluster_size"][0])
    book.sums.copy_(t["state._codebook.embed_avg"][0])
    for step in range(2):
        z = t["input.x"][step].clone().requires_grad_()
        found = book(z, learning())
        assert torch.equal(found.ids, t[f"output.step{step}.indices"])
        near(found.vectors, t[f"output.step{step}.quantize"])
        near(found.commitment_loss, t[f"output.step{step}.commit_loss"])
        ((found.vectors * t["input.grad_weight"]).sum() + found.commitment_loss).backward()
        assert z.grad is not None
        near(z.grad, t[f"output.step{step}.grad_input"])
        book.commit()
        near(book.vectors, t[f"output.step{step}._codebook.embed"][0])
        near(book.counts, t[f"output.step{step}._codebook.cluster_size"][0])
        near(book.sums, t[f"output.step{step}._codebook.embed_avg"][0])


def test_a_codebook_that_learns_by_gradient_agrees() -> None:
    case = committed("quantize_loss")
    t, c = case.tensors, case.facts["config"]
    book = Codebook(c["num_embeddings"], c["embedding_dim"], "gradient")
    book.vectors.data.copy_(t["state.embeddings"].t())
    z = t["input.inputs"].clone().requires_grad_()
    found = book(z)
    assert torch.equal(found.ids, t["output.encoding_indices"])
    near(found.vectors, t["output.quantize"])
    near(found.commitment_loss, t["output.e_latent_loss"])
    near(found.codebook_loss, t["output.q_latent_loss"])
    loss = found.codebook_loss + c["commitment_cost"] * found.commitment_loss
    near(loss, t["output.loss"])
    ((found.vectors * t["input.grad_weight"]).sum() + loss).backward()
    assert z.grad is not None
    assert book.vectors.grad is not None
    near(z.grad, t["output.grad_inputs"])
    near(book.vectors.grad.t(), t["output.grad_embeddings"])
    near(perplexity(torch.bincount(found.ids.flatten(), minlength=c["num_embeddings"]).float()), t["output.perplexity"])


def test_finite_scalars_agree() -> None:
    case = committed("finite_scalar")
    t = case.tensors
    quantizer = FiniteScalarQuantizer(case.facts["config"]["levels"])
    found = quantizer(t["input.x"])
    near(found.vectors, t["output.quantize"])
    assert torch.equal(found.ids, t["output.indices"].long())
    near(quantizer.lookup(found.ids), t["output.codes_from_indices"])
    near(quantizer.lookup(torch.arange(quantizer.num_embeddings)), t["output.implicit_codebook"])


@pytest.mark.parametrize("levels", [(8, 5, 5), (2, 3), (4,), (7, 6, 2, 3)])
def test_finite_scalars_return_from_their_ids(levels: tuple[int, ...]) -> None:
    quantizer = FiniteScalarQuantizer(levels)
    ids = torch.arange(quantizer.num_embeddings)
    vectors = quantizer.lookup(ids)
    assert len(vectors.unique(dim=0)) == quantizer.num_embeddings
    found = quantizer(torch.randn(5000, len(levels), generator=torch.Generator().manual_seed(0)) * 3)
    near(quantizer.lookup(found.ids), found.vectors)
    assert len(found.ids.unique()) > quantizer.num_embeddings // 2


def test_the_nearest_is_the_nearest_and_the_first_of_equals() -> None:
    generator = torch.Generator().manual_seed(1)
    book = Codebook(700, 5)
    z = torch.randn(30, 101, 5, generator=generator)  # more than one part of the search
    wanted = torch.cdist(z.double(), book.vectors.double().expand(30, -1, -1)).argmin(-1)
    assert torch.equal(book.nearest(z), wanted)
    book.vectors[500:] = book.vectors[100:300]
    assert int(book.nearest(z).max()) < 500


def test_each_stage_of_a_residual_brings_it_nearer() -> None:
    generator = torch.Generator().manual_seed(1)
    quantizer = ResidualQuantizer([Codebook(64, 3) for _ in range(3)])
    z = torch.randn(4, 50, 3, generator=generator)
    for stage in quantizer.stages:
        assert isinstance(stage, Codebook)
        stage.vectors[0] = 0  # what is left can at least stay
    found = quantizer(z)
    assert found.ids.shape == (3, 4, 50)
    near(quantizer.lookup(found.ids), found.vectors)
    errors = [float((z - quantizer.stages[0].lookup(found.ids[0])).square().mean())]
    for stages in (2, 3):
        part = sum((s.lookup(i) for s, i in zip(quantizer.stages[:stages], found.ids, strict=False)), torch.zeros(()))
        errors.append(float((z - part).square().mean()))
    assert errors[0] > errors[1] > errors[2] > 0


def blobs(k: int = 12, n: int = 600) -> torch.Tensor:
    """Points around k centres, far from where codebooks begin."""
    generator = torch.Generator().manual_seed(2)
    centres = 20 + 10 * torch.randn(k, 2, generator=generator)
    return centres[torch.arange(n) % k] + 0.1 * torch.randn(n, 2, generator=generator)


@pytest.mark.parametrize(
    "settings", [{"kmeans_init": True}, {"restart_threshold": 0.1}, {"kmeans_init": True, "update": "gradient"}]
)
def test_no_code_stays_unused(settings: Any) -> None:
    z, book = blobs(), Codebook(12, 2, **settings)
    for step in range(300):
        book(z, Seeded(0, step))
        book.commit()
    found = book(z)
    counts = torch.bincount(found.ids, minlength=12)
    assert int((counts > 0).sum()) >= 10
    if settings.get("update") != "gradient":
        assert float(found.commitment_loss) < 1.0
    frozen = Codebook(12, 2)
    for step in range(300):
        frozen(z, Seeded(0, step))
        frozen.commit()
    assert int((torch.bincount(frozen(z).ids, minlength=12) > 0).sum()) < 6


def test_what_is_put_elsewhere_stays_there() -> None:
    """Count and sum are put with the vector: else the next commit would undo it."""
    book = Codebook(3, 2, restart_threshold=0.2)
    book.vectors[:] = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]])
    book.sums.copy_(book.vectors)
    z = torch.zeros(30, 2)
    for step in range(200):
        book(z, Seeded(0, step))
        book.commit()
    assert float(book.vectors.abs().max()) < 1e-3


def test_nothing_is_learned_but_at_a_commit_and_on_purpose() -> None:
    book = Codebook(8, 3, kmeans_init=True, restart_threshold=0.1)
    before = {name: value.clone() for name, value in book.state_dict().items()}
    book(torch.randn(20, 3), learning())
    assert all(torch.equal(before[name], value) for name, value in book.state_dict().items())
    book.commit()
    assert not torch.equal(before["vectors"], book.vectors)
    assert int(book.age) == 1
    after = book.vectors.clone()
    book(torch.randn(20, 3))
    assert torch.equal(after, book.vectors)
    assert int(Codebook(8, 3).age) == KMEANS_STEPS


def test_distances_are_exact_in_low_precision() -> None:
    book = Codebook(64, 8)
    z = torch.randn(200, 8)
    with torch.autocast("cpu", torch.bfloat16):
        low = book(z)
    assert torch.equal(low.ids, book(z).ids)
    assert low.vectors.dtype == torch.float32
