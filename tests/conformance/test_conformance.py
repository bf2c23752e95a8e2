"""One suite for all models and priors: each keeps the promises of its capabilities, and trains as its recipe says."""

from __future__ import annotations

import pickle
from itertools import islice
from pathlib import Path

import pytest
import torch

from anamorph.catalog import MODELS, PRIORS, build
from anamorph.core.errors import UserError
from anamorph.core.interpolation import lerp_codes
from anamorph.core.labels import add_labels, encode_batch
from anamorph.core.model import (
    Encodes,
    Grows,
    HasDecoderLikelihood,
    HasImportanceWeights,
    HasInverse,
    HasLikelihood,
    HasMapping,
    HasPrior,
    LatentModel,
    Samples,
    code_spaces,
)
from anamorph.core.random import Seeded, Sliced
from anamorph.core.space import check_codes
from anamorph.core.stage import Growing, Stage
from anamorph.metrics.likelihood import bits_per_value, likelihood
from anamorph.models.two_stage import TwoStageModel
from anamorph.nn.resample import upsample
from anamorph.nn.style_based import StyleBased
from anamorph.training.compiled import CompiledStep
from anamorph.training.folder import RunFolder
from anamorph.training.gradients import compute_gradients
from anamorph.training.loop import train, train_phase
from anamorph.training.run import ComputeSettings, Run
from small import BATCH, CASES, TEST_ONLY, batch, build_case, codes_of, differing, image_of, make_run, signal_of, source, state

EVERY = pytest.mark.parametrize("case", CASES)
MODEL_CLASSES: dict[str, LatentModel] = {case: build_case(case)[0] for case in CASES}


@pytest.fixture(autouse=True)
def test_only_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test-only models stand in the catalog, as if they had been added to it."""
    for name, entry in TEST_ONLY.items():
        monkeypatch.setitem(MODELS, name, entry)


def cases_with(*capabilities: type[LatentModel]) -> pytest.MarkDecorator:
    """The cases whose models have some capabilities."""
    found = [case for case, model in MODEL_CLASSES.items() if all(isinstance(model, c) for c in capabilities)]
    assert found
    return pytest.mark.parametrize("case", found)


def shown(case: str, n: int = BATCH) -> torch.Tensor:
    return batch(n, case).signals


def ready(case: str) -> LatentModel:
    """A case's model as it is used: its layers do not depend on the batch."""
    model = make_run(case).model.eval()
    assert isinstance(model, LatentModel)
    return model


def test_every_model_and_prior_of_the_catalog_is_here() -> None:
    assert {c.model for c in CASES.values() if not c.prior} == set(MODELS)
    assert {c.model for c in CASES.values() if c.prior} == set(PRIORS)


@cases_with(Encodes)
def test_codes_of_signals_match_the_spaces(case: str) -> None:
    model = ready(case)
    assert isinstance(model, Encodes)
    codes = model.encode(shown(case, 3), batch(3, case).labels)
    assert set(codes) == set(model.inferred) == {space.name for space in code_spaces(model)}
    whole = encode_batch(model, batch(3, case))
    assert check_codes(whole, model.spaces) == 3
    assert model.decode(whole).shape == (3, *signal_of(case).shape)


@cases_with(Samples)
def test_sampled_codes_match_the_spaces(case: str) -> None:
    model = ready(case)
    assert isinstance(model, Samples)
    codes = model.sample_codes(3, Seeded(0, "draw"))
    assert check_codes(codes, model.spaces) == 3
    assert model.decode(codes).shape == (3, *signal_of(case).shape)


@cases_with(HasMapping)
def test_mapped_codes_and_their_mean_match_the_spaces(case: str) -> None:
    model = ready(case)
    assert isinstance(model, HasMapping)
    codes = model.map(torch.randn(3, *model.z_space.shape))
    assert check_codes(codes, model.spaces) == 3
    shapes = {space.name: space.shape for space in model.spaces}
    assert {name: v.shape for name, v in model.w_mean.items()} == {name: shapes[name] for name in model.w_mean}
    assert model.w_mean


@EVERY
def test_codes_that_do_not_fit_are_refused(case: str) -> None:
    model = ready(case)
    codes = codes_of(model, 2)
    name = code_spaces(model)[0].name
    with pytest.raises(UserError, match="codes lack the space"):
        model.decode({k: v for k, v in codes.items() if k != name})
    with pytest.raises(UserError, match=rf"codes of {name!r} are .*wanted \[B"):
        model.decode({**codes, name: torch.zeros(2, *code_spaces(model)[0].shape, 2, dtype=codes[name].dtype)})


@cases_with(Encodes)
def test_signals_that_do_not_fit_are_refused(case: str) -> None:
    model, x = ready(case), shown(case, 2)
    assert isinstance(model, Encodes)
    labels = batch(2, case).labels
    with pytest.raises(UserError, match="bring them to that size first"):
        model.encode(x[..., 1:], labels)
    with pytest.raises(UserError, match="floats in \\[-1, 1\\]"):
        model.encode((x + 1) * 127.5, labels)
    torch.testing.assert_close(model.encode(x[0], {k: v[:1] for k, v in labels.items()}), model.encode(x[:1], labels))


@EVERY
def test_decoding_is_deterministic(case: str) -> None:
    model = ready(case)
    needed = {space.name for space in model.spaces if not space.optional}
    codes = {name: v for name, v in codes_of(model, 2).items() if name in needed}
    assert torch.equal(model.decode(codes), model.decode(codes))
    assert torch.equal(model.decode(codes, "off"), model.decode(codes, "off"))
    assert torch.equal(model.decode(codes, Seeded(1, "x")), model.decode(codes, Seeded(1, "x")))


@cases_with(Samples)
def test_samples_depend_on_the_seed_alone(case: str) -> None:
    model = ready(case)
    assert isinstance(model, Samples)
    first, again, other = (model.sample_codes(2, Seeded(seed, "draw")) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@EVERY
def test_each_example_is_decoded_alone(case: str) -> None:
    """No layer mixes the examples of a batch."""
    model = ready(case)
    codes = codes_of(model, 4)
    torch.testing.assert_close(model.decode(codes)[1:2], model.decode({k: v[1:2] for k, v in codes.items()}))


@cases_with(Encodes)
def test_each_example_is_encoded_alone(case: str) -> None:
    model, x, labels = ready(case), shown(case, 4), batch(4, case).labels
    assert isinstance(model, Encodes)
    for name, value in model.encode(x, labels).items():
        torch.testing.assert_close(value[1:2], model.encode(x[1:2], {k: v[1:2] for k, v in labels.items()})[name])


@cases_with(HasInverse)
@torch.no_grad()
def test_an_exact_inverse_is_exact_both_ways(case: str) -> None:
    model, x = ready(case), shown(case, 3)
    assert isinstance(model, HasInverse)
    assert isinstance(model, Samples)
    torch.testing.assert_close(model.decode(model.encode(x)), x, atol=1e-4, rtol=1e-4)
    codes = model.sample_codes(3, Seeded(0, "draw"))
    torch.testing.assert_close(model._encode(model.decode(codes), {}), codes, atol=1e-4, rtol=1e-4)


@cases_with(HasImportanceWeights)
def test_importance_weights_are_one_per_example_and_sample(case: str) -> None:
    model = ready(case)
    assert isinstance(model, HasImportanceWeights)
    weights = model.importance_log_weights(shown(case, 3), 5, Seeded(0, "w"), batch(3, case).labels)
    assert weights.shape == (3, 5)
    assert model.quantity in ("probability", "density")


@cases_with(HasDecoderLikelihood, Encodes)
@torch.no_grad()
def test_decoder_likelihoods_are_computed_example_by_example(case: str) -> None:
    model, examples = ready(case), batch(4, case)
    assert isinstance(model, HasDecoderLikelihood)
    assert isinstance(model, Encodes)
    codes = encode_batch(model, examples)
    found = model.decoder_log_likelihood(examples.signals, codes)
    assert found.shape == (4,)
    alone = model.decoder_log_likelihood(examples.signals[1:2], {name: value[1:2] for name, value in codes.items()})
    torch.testing.assert_close(found[1:2], alone, rtol=1e-4, atol=1e-4)


@cases_with(HasLikelihood)
@torch.no_grad()
def test_likelihoods_say_what_they_are_of(case: str) -> None:
    model, examples = ready(case), batch(4, case)
    assert isinstance(model, HasLikelihood)
    found = model.log_prob(examples.signals, examples.labels, Seeded(0, "noise"))
    assert found.nats.shape == (4,)
    if found.terms:
        torch.testing.assert_close(torch.stack(list(found.terms.values())).sum(0), found.nats)
    means = likelihood(model, source(case), 4)
    values = signal_of(case).num_values
    assert means.quantity == found.quantity
    expected = bits_per_value(means.values[f"nats_{found.kind}"], values, found.quantity)
    assert means.values[f"bits_per_value_{found.kind}"] == pytest.approx(expected)
    assert 0.5 < expected < 40  # a density that were taken for probabilities would be off by 7 bits, and often negative


@cases_with(HasPrior, Encodes)
@torch.no_grad()
def test_the_log_probabilities_of_codes_are_computed_example_by_example(case: str) -> None:
    model, examples = ready(case), batch(4, case)
    assert isinstance(model, HasPrior)
    assert isinstance(model, Encodes)
    codes = model.encode(examples.signals, examples.labels)
    found = model.code_log_prob(codes, examples.labels)
    assert found.shape == (4,)
    alone = model.code_log_prob(
        {k: v[1:2] for k, v in codes.items()}, {name: value[1:2] for name, value in examples.labels.items()}
    )
    torch.testing.assert_close(found[1:2], alone, rtol=1e-4, atol=1e-4)


@EVERY
def test_real_codes_can_be_interpolated_and_whole_ones_only_switched(case: str) -> None:
    model = ready(case)
    codes = codes_of(model, 2)
    a, b = ({name: value[i] for name, value in codes.items()} for i in range(2))
    t = torch.tensor([0.0, 0.25, 1.0])
    if not any(value.is_floating_point() for value in codes.values()):
        with pytest.raises(UserError, match="there is nothing between them"):
            lerp_codes(a, b, t)
        return
    between = lerp_codes(a, b, t)
    assert check_codes(between, model.spaces) == 3
    assert all(torch.equal(between[name][0], a[name]) and torch.equal(between[name][-1], b[name]) for name in a)
    assert torch.isfinite(model.decode(between)).all()


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_one_kind_of_signal_refuses_the_other(name: str) -> None:
    config = next(case.config for case in CASES.values() if case.model == name)
    others = [signal for signal in (signal_of("alae"), signal_of("audio_vqvae")) if signal.noun not in MODELS[name].signals]
    for other in others:
        with pytest.raises(UserError, match=rf"{name} is for (images|sounds), got {other.noun}s of .*: choose one of .*vq"):
            build(name, other, config, 0)
    assert others or set(MODELS[name].signals) == {"image", "sound"}


@EVERY
def test_a_model_can_be_pickled(case: str) -> None:
    model = ready(case)
    again = pickle.loads(pickle.dumps(model))
    codes = codes_of(model, 2)
    assert torch.equal(model.decode(codes), again.decode(codes))


@EVERY
def test_every_trained_parameter_gets_a_gradient_from_some_phase(case: str) -> None:
    run = make_run(case)
    stages = [Stage(0, BATCH)]
    if isinstance(run.model, Grows):
        stages += [Stage(0, BATCH, 0.5), Stage(1, BATCH)]
    reached: set[torch.nn.Parameter] = set()
    for stage in stages:
        for phase in run.recipe.phases:
            examples = source(case).take(0, BATCH, stage.level)
            _, found = compute_gradients(phase, examples, stage, run.random(phase), run.compute)
            reached |= {p for p, g in zip(phase.parameters, found, strict=True) if g is not None and bool(g.any())}
    missing = [name for name, p in run.model.named_parameters() if p.requires_grad and p not in reached]
    if "wasserstein" in case:  # a difference of mean logits does not see what is added to all of them
        missing = [name for name in missing if not (name.startswith("critic.") and name.endswith(".bias"))]
    assert not missing
    assert {phase.role for phase in run.recipe.phases} <= {"reconstruction", "critic", "generator", "inversion", "prior"}


@EVERY
def test_a_phase_moves_what_it_trains_and_nothing_else(case: str) -> None:
    run = make_run(case)
    for _ in range(2):  # the second time, parameters without a gradient have been stepped before
        for phase in run.recipe.phases:
            before = {name: t.detach().clone() for name, t in run.model.state_dict().items()}
            train_phase(run, phase, batch(case=case), Stage(0, BATCH))
            parameters = dict(run.model.named_parameters())
            moved = {name for name, t in run.model.state_dict().items() if not torch.equal(t, before[name])}
            trained = {name for name, p in parameters.items() if p in set(phase.parameters)}
            assert moved
            assert moved & set(parameters) <= trained, phase.name
        run.step += 1


@EVERY
def test_the_random_numbers_of_a_phase_are_a_function_of_seed_and_step(case: str) -> None:
    def total(phase: str, seed: int, step: int) -> float:
        run = make_run(case)
        run.seed, run.step = seed, step
        own = next(p for p in run.recipe.phases if p.name == phase)
        return float(own.loss(batch(case=case), Stage(0, BATCH), run.random(own)).detached().total())

    for phase in make_run(case).recipe.phases:
        first, again = total(phase.name, 0, 3), total(phase.name, 0, 3)
        other_seeds = {total(phase.name, seed, 3) for seed in (1, 2)}  # one may agree by rounding
        other_steps = {total(phase.name, 0, step) for step in (4, 5)}
        assert first == again
        assert (other_seeds != {first}) == (other_steps != {first}) == CASES[case].random_loss


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


@pytest.mark.parametrize("case", [case for case in CASES if build_case(case)[1].group_size is not None])
def test_micro_batches_give_the_gradient_of_the_batch(case: str) -> None:
    run = make_run(case)
    for phase in run.recipe.phases:
        whole, found = compute_gradients(phase, batch(case=case), Stage(0, BATCH), run.random(phase), run.compute)
        halves = [
            compute_gradients(
                phase, batch(case=case).micro_batch(k, 2), Stage(0, BATCH), Sliced(run.random(phase), k, 2), run.compute
            )
            for k in range(2)
        ]
        total = torch.stack([output.total() for output, _ in halves]).mean()
        torch.testing.assert_close(total, whole.total(), rtol=1e-4, atol=1e-5)
        for own, a, b in zip(found, halves[0][1], halves[1][1], strict=True):
            if own is not None and a is not None and b is not None:
                torch.testing.assert_close((a + b) / 2, own, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("case", [case for case in CASES if build_case(case)[1].group_size is None])
def test_a_batch_that_must_be_whole_is_not_divided(case: str) -> None:
    with pytest.raises(UserError, match="the whole batch at once"):
        make_run(case, ComputeSettings(gradient_accumulation=2)).check_batch(BATCH)


@EVERY
def test_bfloat16_is_close_to_float32(case: str) -> None:
    full, half = make_run(case), make_run(case, ComputeSettings(precision="bfloat16"))
    for a, b in zip(full.recipe.phases, half.recipe.phases, strict=True):
        wanted, _ = compute_gradients(a, batch(case=case), Stage(0, BATCH), full.random(a), full.compute)
        got, found = compute_gradients(b, batch(case=case), Stage(0, BATCH), half.random(b), half.compute)
        torch.testing.assert_close(got.total(), wanted.total(), rtol=0.05, atol=0.05)
        assert all(g is None or g.dtype == torch.float32 for g in found)


@EVERY
def test_the_ema_copies_at_once_when_its_half_life_is_nothing(case: str) -> None:
    run = make_run(case)
    run.ema.half_life = 1e-9
    for _ in islice(train(run, source(case)), 2):
        pass
    averages = run.ema.model.state_dict()
    assert all(torch.equal(averages[name], value) for name, value in run.model.state_dict().items())


COMPILED = ("projection_gan", "vbn_gan-wasserstein")
"""One small case of each kind of optimizer and of committed buffers; the others are compiled in the slow tests."""


@pytest.mark.parametrize("case", [c if c in COMPILED else pytest.param(c, marks=pytest.mark.slow) for c in CASES])
def test_compiled_and_eager_training_agree(case: str) -> None:
    eager, compiled = make_run(case), make_run(case, ComputeSettings(compiled=True))
    eager_steps = list(islice(train(eager, source(case)), 3))
    compiled_steps = list(islice(train(compiled, source(case)), 3))
    for a, b in zip(eager_steps, compiled_steps, strict=True):
        assert b.losses == pytest.approx(a.losses, rel=1e-3, abs=1e-4)
    if CASES[case].ties:  # of hundreds of vectors, one may be as near to one code as to another, and go either way
        return
    for name, wanted in eager.tensors().items():
        torch.testing.assert_close(compiled.tensors()[name], wanted, rtol=1e-3, atol=2e-4, msg=name)


@pytest.mark.parametrize("case", ["stylealae", "stylegan"])
def test_accumulated_steps_are_those_of_the_whole_in_the_layout_of_the_compiler(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled runs keep kernels channels last, accumulated gradients are not: Adam must not mix them up."""
    monkeypatch.setattr(CompiledStep, "_compile", lambda self, function, key: function)
    plain = make_run(case, ComputeSettings(gradient_accumulation=2))
    compiled = make_run(case, ComputeSettings(gradient_accumulation=2, compiled=True))
    for run in (plain, compiled):
        list(islice(train(run, source(case)), 2))
    kernels = [p for p in compiled.model.parameters() if p.dim() == 4 and min(p.shape[1:]) > 1]
    assert any(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
    for name, wanted in plain.tensors().items():
        torch.testing.assert_close(compiled.tensors()[name], wanted, rtol=1e-3, atol=2e-4, msg=name)


def test_a_dry_run_leaves_no_trace() -> None:
    """Before a phase is compiled its loss is run once, to learn which random numbers it needs; what it gathered is undone."""
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
    torch.manual_seed(123)
    before = torch.get_rng_state()
    one, two, other = (build_case(case, seed)[0].state_dict() for seed in (5, 5, 6))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[k], two[k]) for k in one)
    begins_alike = CASES[case].prior and not list(build_case(case)[0].prior.parameters())  # type: ignore[union-attr]
    assert begins_alike or any(not torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("case", [case for case, model in MODEL_CLASSES.items() if isinstance(model, TwoStageModel)])
def test_a_prior_leaves_the_first_stage_alone_and_samples_by_class(case: str) -> None:
    run = make_run(case)
    model = run.model
    assert isinstance(model, TwoStageModel)
    before = {name: t.clone() for name, t in model.first_stage.state_dict().items()}
    for _ in islice(train(run, source(case)), 2):
        pass
    assert all(torch.equal(t, before[name]) for name, t in model.first_stage.state_dict().items())
    labels = {name: torch.arange(4) % n for name, n in model.classes.items()}
    codes = model.sample_codes(4, Seeded(0, "draw"), labels)
    expected = add_labels(model, codes, labels, "the test")
    assert {name: v.tolist() for name, v in expected.items()} == {name: v.tolist() for name, v in codes.items()}
    assert check_codes(codes, model.spaces) == 4


GROWING = [case for case, model in MODEL_CLASSES.items() if isinstance(model, Grows)]


@pytest.mark.parametrize("case", GROWING)
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
        stages = [result.stage for result in islice(train(run, source(case)), steps)]
        assert len(stages) == steps
        return run

    whole = grown(8)
    assert growing.at(whole.images).level == 0
    for stop in (1, 2, 3, 4, 5):
        assert not differing(state(whole), state(grown(8 - stop, grown(stop))))


@pytest.mark.parametrize("case", GROWING)
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


@pytest.mark.parametrize("case", [case for case in GROWING if isinstance(MODEL_CLASSES[case], Encodes)])
def test_a_view_of_a_growing_model_encodes_at_its_level(case: str) -> None:
    model = make_run(case).model
    assert isinstance(model, Grows)
    small = model.at(Stage(1, BATCH))
    assert isinstance(small, Encodes)
    assert check_codes(small.encode(source(case).take(0, 2, level=1).signals), small.spaces) == 2


@pytest.mark.parametrize("case", GROWING)
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
