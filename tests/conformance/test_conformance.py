"""One suite for all models: each keeps the promises of its capabilities, and trains as its recipe says."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

from anamorph.catalog import MODELS, build
from anamorph.core.errors import UserError
from anamorph.core.labels import encode_batch
from anamorph.core.model import Encodes, Grows, HasDecoderLikelihood, HasImportanceWeights, HasMapping, Samples
from anamorph.core.random import Seeded, Sliced
from anamorph.core.space import check_codes
from anamorph.core.stage import Growing, Stage
from anamorph.nn.resample import upsample
from anamorph.nn.style_based import StyleBased
from anamorph.training.compiled import CompiledStep
from anamorph.training.folder import RunFolder
from anamorph.training.gradients import compute_gradients
from anamorph.training.loop import train, train_phase
from anamorph.training.run import ComputeSettings, Run
from small import BATCH, CASES, batch, codes_of, differing, image_of, make_run, signal_of, source, state

EVERY = pytest.mark.parametrize("case", CASES)


def test_every_model_of_the_catalog_is_here() -> None:
    assert {name for name, _ in CASES.values()} == set(MODELS)


@EVERY
def test_codes_match_the_spaces_and_what_is_decoded_the_signal(case: str) -> None:
    model = make_run(case).model
    found = []
    if isinstance(model, Encodes):
        found.append(encode_batch(model, batch(3, case)))
    if isinstance(model, Samples):
        found.append(model.sample_codes(3, Seeded(0, "draw")))
    if isinstance(model, HasMapping):
        found.append(model.map(torch.randn(3, *model.z_space.shape)))
        assert {name: v.shape for name, v in model.w_mean.items()} == {
            s.name: s.shape for s in model.spaces if s.name in model.w_mean
        }
    assert found
    for codes in found:
        assert check_codes(codes, model.spaces) == 3
        assert model.decode(codes).shape == (3, *signal_of(case).shape)


@EVERY
def test_decoding_is_deterministic_and_draws_depend_on_the_seed_alone(case: str) -> None:
    model = make_run(case).model
    codes = {name: v for name, v in codes_of(model, 2).items() if not any(s.optional for s in model.spaces if s.name == name)}
    assert torch.equal(model.decode(codes), model.decode(codes))
    assert torch.equal(model.decode(codes, "off"), model.decode(codes, "off"))
    assert torch.equal(model.decode(codes, Seeded(1, "x")), model.decode(codes, Seeded(1, "x")))
    if isinstance(model, Samples):
        first, again, other = (model.sample_codes(2, Seeded(seed, "draw")) for seed in (1, 1, 2))
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert any(not torch.equal(first[name], other[name]) for name in first)


@EVERY
def test_each_example_is_treated_alone(case: str) -> None:
    """No layer mixes the examples of a batch."""
    model = make_run(case).model
    codes = codes_of(model, 4)
    torch.testing.assert_close(model.decode(codes)[1:2], model.decode({k: v[1:2] for k, v in codes.items()}))
    if isinstance(model, Encodes):
        x = batch(4, case).signals
        for name, value in model.encode(x).items():
            torch.testing.assert_close(value[1:2], model.encode(x[1:2])[name])


@EVERY
def test_log_weights_are_one_per_example_and_sample(case: str) -> None:
    model = make_run(case).model
    if isinstance(model, HasImportanceWeights):
        assert model.importance_log_weights(batch(3, case).signals, 5, Seeded(0, "w")).shape == (3, 5)


@EVERY
@torch.no_grad()
def test_what_explains_does_so_example_by_example(case: str) -> None:
    model, shown = make_run(case).model, batch(4, case)
    if isinstance(model, HasDecoderLikelihood):
        assert isinstance(model, Encodes)
        codes = encode_batch(model, shown)
        found = model.decoder_log_likelihood(shown.signals, codes)
        assert found.shape == (4,)
        alone = model.decoder_log_likelihood(shown.signals[1:2], {name: value[1:2] for name, value in codes.items()})
        torch.testing.assert_close(found[1:2], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_images_refuses_sounds_and_the_reverse(name: str) -> None:
    config = next(config for model, config in CASES.values() if model == name)
    for other in (signal_of("alae"), signal_of("audio")):
        if other.noun not in MODELS[name].signals:
            with pytest.raises(UserError, match=rf"{name} is for (images|sounds), got {other.noun}s of .*: choose one of .*vq"):
                build(name, other, config, 0)


@EVERY
def test_every_trained_parameter_gets_a_gradient_from_some_phase(case: str) -> None:
    run = make_run(case)
    grows = isinstance(run.model, Grows)
    reached: set[torch.nn.Parameter] = set()
    for stage in (Stage(0, BATCH), *([Stage(0, BATCH, 0.5), Stage(1, BATCH)] if grows else [])):
        for phase in run.recipe.phases:
            shown = source(case).take(0, BATCH, stage.level)
            _, found = compute_gradients(phase, shown, stage, run.random(phase), run.compute)
            reached |= {p for p, g in zip(phase.parameters, found, strict=True) if g is not None and bool(g.any())}
    missing = [name for name, p in run.model.named_parameters() if p not in reached]
    if "wasserstein" in case:  # a difference of mean scores does not see what is added to all of them
        missing = [name for name in missing if not (name.startswith("critic.") and name.endswith(".bias"))]
    assert not missing


@EVERY
def test_a_phase_moves_what_it_trains_and_nothing_else(case: str) -> None:
    run = make_run(case)
    for _ in range(2):  # the second time, idle parameters have been stepped before
        for phase in run.recipe.phases:
            before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
            train_phase(run, phase, batch(case=case), Stage(0, BATCH))
            moved = {name for name, p in run.model.named_parameters() if not torch.equal(p, before[name])}
            trained = {name for name, p in run.model.named_parameters() if p in set(phase.parameters)}
            assert moved
            assert moved <= trained, phase.name
        run.step += 1


@EVERY
def test_the_random_numbers_of_a_phase_are_a_function_of_seed_and_step(case: str) -> None:
    for phase in make_run(case).recipe.phases:
        totals = []
        for seed, step in ((0, 3), (0, 3), (1, 3), (0, 4)):
            run = make_run(case)
            run.seed, run.step = seed, step
            mine = next(p for p in run.recipe.phases if p.name == phase.name)
            totals.append(float(mine.loss(batch(case=case), Stage(0, BATCH), run.random(mine)).detached().total()))
        assert totals[0] == totals[1]
        if not case.startswith(("autoencoder", "vqvae", "audio")):  # their losses draw nothing
            assert len(set(totals)) == 3


@EVERY
def test_training_resumes_bitwise(case: str) -> None:
    whole = make_run(case)
    for _ in islice(train(whole, source(case)), 7):
        pass
    half = make_run(case)
    for _ in islice(train(half, source(case)), 3):
        pass
    resumed = make_run(case, seed=0)
    for parameter in resumed.model.parameters():
        parameter.data.normal_()  # whatever it began with
    resumed.restore(state(half), half.metadata())
    for _ in islice(train(resumed, source(case)), 4):
        pass
    assert not differing(state(whole), state(resumed))
    assert whole.metadata() == resumed.metadata()


@EVERY
def test_a_checkpoint_on_disk_is_the_run(case: str, tmp_path: Path) -> None:
    run = make_run(case)
    for _ in islice(train(run, source(case)), 3):
        pass
    folder = RunFolder(tmp_path)
    folder.save(run, {}, keep=False)
    found = folder.latest()
    assert found is not None
    again = make_run(case)
    again.restore(found[0], found[1])
    assert not differing(state(run), state(again))
    assert (again.step, again.images) == (3, 3 * BATCH)


@EVERY
def test_micro_batches_give_the_gradient_of_the_batch(case: str) -> None:
    run = make_run(case)
    if run.recipe.group_size is None:
        with pytest.raises(UserError, match="the whole batch at once"):
            make_run(case, ComputeSettings(gradient_accumulation=2)).check_batch(BATCH)
        return
    for phase in run.recipe.phases:
        whole, found = compute_gradients(phase, batch(case=case), Stage(0, BATCH), run.random(phase), run.compute)
        parts = [
            compute_gradients(
                phase, batch(case=case).micro_batch(k, 2), Stage(0, BATCH), Sliced(run.random(phase), k, 2), run.compute
            )
            for k in range(2)
        ]
        total = torch.stack([outcome.total() for outcome, _ in parts]).mean()
        torch.testing.assert_close(total, whole.total(), rtol=1e-4, atol=1e-5)
        for mine, a, b in zip(found, parts[0][1], parts[1][1], strict=True):
            if mine is not None and a is not None and b is not None:
                torch.testing.assert_close((a + b) / 2, mine, rtol=1e-3, atol=1e-5)


@EVERY
def test_bfloat16_is_close_to_float32(case: str) -> None:
    full, half = make_run(case), make_run(case, ComputeSettings(precision="bfloat16"))
    for a, b in zip(full.recipe.phases, half.recipe.phases, strict=True):
        wanted, _ = compute_gradients(a, batch(case=case), Stage(0, BATCH), full.random(a), full.compute)
        got, found = compute_gradients(b, batch(case=case), Stage(0, BATCH), half.random(b), half.compute)
        torch.testing.assert_close(got.total(), wanted.total(), rtol=0.05, atol=0.05)
        assert all(g is None or g.dtype == torch.float32 for g in found)


@EVERY
def test_the_average_copies_at_once_when_its_half_life_is_nothing(case: str) -> None:
    run = make_run(case)
    run.ema.half_life = 1e-9
    for _ in islice(train(run, source(case)), 2):
        pass
    mine = run.ema.model.state_dict()
    assert all(torch.equal(mine[name], value) for name, value in run.model.state_dict().items())


@pytest.mark.parametrize("case", ["alae", *(pytest.param(c, marks=pytest.mark.slow) for c in CASES if c != "alae")])
def test_compiled_and_eager_training_agree(case: str) -> None:
    eager, compiled = make_run(case), make_run(case, ComputeSettings(compiled=True))
    eager_ticks = list(islice(train(eager, source(case)), 3))
    compiled_ticks = list(islice(train(compiled, source(case)), 3))
    for a, b in zip(eager_ticks, compiled_ticks, strict=True):
        assert b.losses == pytest.approx(a.losses, rel=1e-3, abs=1e-4)
    if "vq" in case:  # of hundreds of vectors, one may be as near to one code as to another, and go either way
        return
    for name, wanted in eager.tensors().items():
        torch.testing.assert_close(compiled.tensors()[name], wanted, rtol=1e-3, atol=2e-4, msg=name)


@pytest.mark.parametrize("case", ["stylealae", "stylegan"])
def test_steps_in_parts_are_those_of_the_whole_in_the_layout_of_the_compiler(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled runs keep kernels channels last, gradients that are averaged over parts are not: Adam must not mix them up."""
    monkeypatch.setattr(CompiledStep, "_compile", lambda self, function, key: function)
    plain, compiled = (
        make_run(case, ComputeSettings(gradient_accumulation=2)),
        make_run(case, ComputeSettings(gradient_accumulation=2, compiled=True)),
    )
    for run in (plain, compiled):
        list(islice(train(run, source(case)), 2))
    kernels = [p for p in compiled.model.parameters() if p.dim() == 4 and min(p.shape[1:]) > 1]
    assert any(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
    for name, wanted in plain.tensors().items():
        torch.testing.assert_close(compiled.tensors()[name], wanted, rtol=1e-3, atol=2e-4, msg=name)


def test_a_dry_run_leaves_no_trace() -> None:
    """Before a phase is compiled its loss is run once, to learn what it draws; what it gathered is undone."""
    run = make_run("alae")
    (phase, *_) = run.recipe.phases
    before = state(run)
    totals = [buffer.clone() for buffer in run.model.buffers()]
    requests = CompiledStep(run)._explore(phase, batch(), Stage(0, BATCH)).requests
    assert [request[1] for request in requests] == [(BATCH, 3)]
    assert not differing(before, state(run))
    assert all(torch.equal(a, b) for a, b in zip(totals, run.model.buffers(), strict=True))


@EVERY
def test_weights_depend_on_the_seed_alone(case: str) -> None:
    name, config = CASES[case]
    torch.manual_seed(123)
    before = torch.get_rng_state()
    one, two, other = (build(name, signal_of(case), config, seed)[0].state_dict() for seed in (5, 5, 6))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert any(not torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("style")])
def test_a_growing_model_resumes_bitwise_through_its_fades(case: str) -> None:
    """Two levels: 2 steps at the coarse one, 3 of fading with the batch halved, then the fine one."""
    growing = Growing(
        (BATCH, BATCH // 2), (1.0, 0.5), initial_images=2 * BATCH, fade_images=3 * BATCH // 2, stable_images=BATCH
    )

    def grown(steps: int, start: Run | None = None) -> Run:
        run = make_run(case)
        run.schedule = growing
        if start:
            run.restore(state(start), start.metadata())
        stages = [tick.stage for tick in islice(train(run, source(case)), steps)]
        assert len(stages) == steps
        return run

    whole = grown(8)
    assert growing.at(whole.images).level == 0
    for stop in (1, 2, 3, 4, 5):
        assert not differing(state(whole), state(grown(8 - stop, grown(stop))))


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("style")])
def test_a_view_of_a_growing_model_is_of_its_level_and_changes_nothing(case: str) -> None:
    model = make_run(case).model
    assert isinstance(model, Grows)
    assert isinstance(model, Samples)
    before = image_of(case)
    small = model.at(Stage(1, BATCH))
    assert isinstance(small, type(model))
    codes = small.sample_codes(3, Seeded(0, "draw"))
    assert check_codes(codes, small.spaces) == 3  # the layers that make images of this level, and no others
    assert small.decode(codes).shape == (3, *before.at(1).shape)
    assert model.decode(model.sample_codes(3, Seeded(0, "draw"))).shape == (3, *before.shape)
    view = model.at(Stage(1, BATCH))
    assert isinstance(view, StyleBased)
    assert len(view.style_weights()) == len(view.w_mean["w"]) == view.spaces[0].shape[0] == model.spaces[0].shape[0] - 2
    assert model.signal == before
    assert len(small.spaces) == len(model.spaces) - 2
    if isinstance(small, Encodes):
        assert check_codes(small.encode(source(case).take(0, 2, level=1).signals), small.spaces) == 2


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("style")])
def test_a_fade_begins_as_the_coarse_level_and_ends_as_the_fine_one(case: str) -> None:
    model = make_run(case).model
    assert isinstance(model, Grows)
    assert isinstance(model, Samples)
    codes = model.sample_codes(3, Seeded(0, "draw"))
    coarse, start, end, fine = (
        model.at(stage).decode(codes)
        for stage in (Stage(1, 3), Stage(0, 3, torch.tensor(0.0)), Stage(0, 3, torch.tensor(1.0)), Stage(0, 3))
    )
    torch.testing.assert_close(start, upsample(coarse))
    torch.testing.assert_close(end, fine)
