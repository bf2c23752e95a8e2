from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.exc import InternalTorchDynamoError

from anamorph.catalog import build
from anamorph.core.errors import UserError
from anamorph.core.model import LatentModel, Noise
from anamorph.core.optimizer import Adam
from anamorph.core.random import Random
from anamorph.core.recipe import LossOutput, Phase, Recipe
from anamorph.core.signal import Batch, Image
from anamorph.core.space import Codes, Space
from anamorph.core.stage import Constant, Stage
from anamorph.models.autoencoders.vae import VAEConfig
from anamorph.training.compiled import CompiledStep
from anamorph.training.ema import EMA
from anamorph.training.loop import train
from anamorph.training.prefetch import Prefetch
from anamorph.training.run import ComputeSettings, Diverged, Run
from small import BATCH, images, make_run, state


class Dot(LatentModel):
    """A model with one weight per phase, for tests of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.signal, self.spaces = Image(1, 1, 1), (Space("z", (1,)),)
        self.often, self.seldom = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)

    def _decode(self, codes: Codes, noise: Noise) -> torch.Tensor:
        return self.often(codes["z"]).view(-1, 1, 1, 1)


def make(bad_at: int | None = None, every: int = 3) -> Run:
    model = Dot()
    committed: list[int] = []

    def often(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        term = model.often.weight.sum() * float("nan" if run.step == bad_at else 1.0)
        return LossOutput({"a": term, "b": 2 * model.often.weight.sum()}, {"seen": torch.tensor([1.0, 2.0])})

    def seldom(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        return LossOutput({"c": model.seldom.weight.sum()})

    phases = (
        Phase("often", often, (model.often,), ("one",), commit=(lambda: committed.append(run.step),)),
        Phase("seldom", seldom, (model.seldom,), ("two",), interval=every),
    )
    optimizers = {"one": Adam(list(model.often.parameters()), 0.1), "two": Adam(list(model.seldom.parameters()), 0.1)}
    run = Run(model, Recipe(phases, optimizers), Constant(4))
    run.committed = committed  # type: ignore[attr-defined]
    return run


def test_phases_run_at_their_own_pace_and_commit_after_each_step() -> None:
    run = make(every=3)
    ticks = list(islice(train(run, images()), 7))
    assert ["seldom/c" in tick.losses for tick in ticks] == [True, False, False, True, False, False, True]
    assert run.recipe.optimizers["two"].state()["steps"].tolist() == [3]
    assert run.committed == list(range(7))  # type: ignore[attr-defined]
    assert [(tick.step, tick.images) for tick in ticks] == [(i + 1, 4 * (i + 1)) for i in range(7)]
    assert ticks[0].metrics == {"often/seen": [1.0, 2.0]}


def test_the_sum_of_the_terms_is_descended() -> None:
    run = make()
    before = float(run.model.get_parameter("often.weight").detach())
    next(iter(train(run, images())))
    assert float(run.model.get_parameter("often.weight").detach()) == pytest.approx(before - 0.1, abs=1e-5)


def test_a_loss_that_is_not_finite_stops_and_is_named() -> None:
    run = make(bad_at=2)
    with pytest.raises(Diverged, match=r"phase 'often' the term 'a' is nan at step 3 \(12 images\)"):
        list(islice(train(run, images()), 5))


def test_a_phase_without_its_optimizer_is_refused() -> None:
    model = Dot()
    phase = Phase("p", lambda b, s, r: LossOutput({}), (model,), ("one",))
    with pytest.raises(ValueError, match="none of its optimizers"):
        Recipe((phase,), {"one": Adam(list(model.often.parameters()), 0.1)})


@dataclass(frozen=True)
class Eras:
    """A schedule whose second era begins after some images, with a smaller rate."""

    change: int
    num_graphs: int = 1

    def at(self, images: int) -> Stage:
        late = images >= self.change
        return Stage(0, 4, lr_scale=0.5 if late else 1.0, optimizer_epoch=int(late))


def test_a_new_era_forgets_the_moments_but_resuming_in_it_does_not() -> None:
    run = make()
    run.schedule = Eras(8)
    list(islice(train(run, images()), 2))
    assert run.recipe.optimizers["one"].state()["steps"].tolist() == [2]
    list(islice(train(run, images()), 2))
    assert run.recipe.optimizers["one"].state()["steps"].tolist() == [2]
    again = make()
    again.schedule = Eras(8)
    again.restore(run.tensors(), run.metadata())
    list(islice(train(again, images()), 1))
    assert again.recipe.optimizers["one"].state()["steps"].tolist() == [3]


def test_the_rate_follows_the_stage() -> None:
    moved = []
    for change in (100, 0):
        run = make()
        run.schedule = Eras(change)
        weight = run.model.get_parameter("often.weight")
        before = float(weight.detach())
        next(iter(train(run, images())))
        moved.append(float(weight.detach()) - before)
    assert moved[1] == pytest.approx(moved[0] / 2, rel=1e-3)


@pytest.mark.parametrize(
    ("group", "parts", "message"),
    [(1, 3, "divided into 3 pieces"), (4, 4, "a multiple of 4 images"), (None, 2, "the whole batch at once")],
)
def test_a_batch_that_cannot_be_divided_is_refused(group: int | None, parts: int, message: str) -> None:
    run = make_run("alae", ComputeSettings(gradient_accumulation=parts))
    object.__setattr__(run.recipe, "group_size", group)
    with pytest.raises(UserError, match=message):
        next(iter(train(run, images())))


def test_micro_batches_train_like_the_batch() -> None:
    whole, parted = make_run("vae"), make_run("vae", ComputeSettings(gradient_accumulation=4))
    for a, b in zip(islice(train(whole, images()), 3), islice(train(parted, images()), 3), strict=True):
        assert b.losses == pytest.approx(a.losses, rel=1e-4)
    for name, value in state(whole).items():
        torch.testing.assert_close(parted.tensors()[name], value, rtol=1e-2, atol=1e-3)


def test_restoring_something_else_lists_what_does_not_fit_and_changes_nothing() -> None:
    run, before = make_run("alae"), state(make_run("alae"))
    tensors = dict(before)
    tensors["model/critic.layers.0.weight"] = torch.zeros(2, 2)
    del tensors["ema/w_mean_tracker.mean"]
    tensors["model/other"] = torch.zeros(1)
    with pytest.raises(UserError) as error:
        run.restore(tensors, run.metadata())
    for part in (
        "critic.layers.0.weight is [2, 2], wanted [5, 5]",
        "ema/w_mean_tracker.mean is missing",
        "model/other is unknown",
    ):
        assert part in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in run.tensors().items())


def test_the_average_follows_with_its_half_life_and_copies_buffers() -> None:
    model = nn.BatchNorm1d(3)
    average = EMA(model, half_life=100)
    start = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1)
        model.running_mean.fill_(7)  # type: ignore[union-attr]
    average.update(average.weight(100, seen=1_000_000))
    torch.testing.assert_close(average.model.weight, start + 0.5)
    average.update(torch.tensor(average.weight(100, seen=1_000_000)))
    torch.testing.assert_close(average.model.weight, start + 0.75)
    assert average.model.running_mean.tolist() == [7, 7, 7]  # type: ignore[union-attr]
    assert not average.model.weight.requires_grad


@pytest.mark.parametrize("images", [2000, 50_000, 1_000_000])
def test_the_average_has_forgotten_the_beginning_however_short_the_run(images: int) -> None:
    """Of weights that grow evenly with the images seen, it is where they were a little before."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1e6)
    average = EMA(model, half_life=10_000)
    for seen in range(0, images, 100):
        nn.init.constant_(model.weight, seen + 100)
        average.update(average.weight(100, seen))
    behind = images - float(average.model.weight)
    mean_life = min(10_000, 0.05 * images) / math.log(2)
    assert 0.6 * mean_life < behind < 1.1 * mean_life


def test_the_next_batch_is_prepared_and_is_the_one_of_its_position() -> None:
    source = images()
    asked: list[tuple[int, int, int]] = []

    class Counting:
        signal, size, labels, fingerprint = source.signal, source.size, source.labels, source.fingerprint

        def take(self, start: int, count: int, level: int = 0) -> Batch:
            asked.append((start, count, level))
            return source.take(start, count, level)

    with Prefetch(Counting()) as feed:
        for start in (0, BATCH, 2 * BATCH, 100):  # the last is not the one prepared
            assert torch.equal(feed.take(start, BATCH, 0).signals, source.take(start, BATCH).signals)
    assert asked[:3] == [(0, BATCH, 0), (BATCH, BATCH, 0), (2 * BATCH, BATCH, 0)]
    assert (100, BATCH, 0) in asked


def test_an_error_while_preparing_a_batch_reaches_the_loop() -> None:
    class Broken:
        signal, size, labels, fingerprint = images().signal, 40, (), "x"

        def take(self, start: int, count: int, level: int = 0) -> Batch:
            if start:
                raise UserError("the disk is gone")
            return images().take(start, count, level)

    with pytest.raises(UserError, match="the disk is gone"):
        list(islice(train(make_run("alae"), Broken()), 3))


def test_finite_weights_are_checked_before_they_are_kept() -> None:
    run = make_run("alae")
    run.check_finite()
    with torch.no_grad():
        next(run.model.parameters())[0] = math.inf
    with pytest.raises(Diverged, match="is not finite at step 0"):
        run.check_finite()


def test_where_a_step_cannot_be_compiled_it_is_run_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> Any:
        def call(*_: object) -> None:
            raise InternalTorchDynamoError("no such instruction\nand so on")

        return call

    source = images(80)
    plain, broken = make_run("alae"), make_run("alae", ComputeSettings(compiled=True))
    list(islice(train(plain, source), 3))
    monkeypatch.setattr(CompiledStep, "_compile", failing)
    with pytest.warns(UserWarning, match=r"cannot be compiled here, and runs slower without \(no such instruction\)"):
        list(islice(train(broken, source), 3))
    for name, value in plain.tensors().items():
        torch.testing.assert_close(broken.tensors()[name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_what_is_compiled_in_low_precision_is_what_it_is_without() -> None:
    """Feature maps of 8x8 that are read as vectors: a C++ compiler has made NaN of their gradients."""

    class Greys:
        signal, size, labels, fingerprint = Image(1, 32, 32), 64, (), "greys"

        def take(self, start: int, count: int, level: int = 0) -> Batch:
            return Batch(torch.rand(count, 1, 32, 32, generator=torch.Generator().manual_seed(start)) * 2 - 1)

    source, config = Greys(), VAEConfig(net="convolutional", width=32, residual_blocks=2)
    found = []
    for compiled in (False, True):
        model, recipe = build("vae", source.signal, config, 0)
        run = Run(model, recipe, Constant(8), 0, ComputeSettings(precision="bfloat16", compiled=compiled))
        list(islice(train(run, source), 2))
        run.check_finite()
        found.append({name: p.detach().clone() for name, p in run.model.named_parameters()})
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, atol=5e-3, rtol=0)
