"""Warnings while training: given when a discriminator wins, samples become alike or an encoder stalls; and only then."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anamorph.core.stage import Stage
from anamorph.models.adversarial_autoencoders.stylealae import StyleALAE
from anamorph.models.autoencoders.vae import VAEConfig
from anamorph.runs import new_settings, open_training
from anamorph.training import diagnosis, session
from anamorph.training.autotune import ComputeRequest
from anamorph.training.diagnosis import STALLED_CHECKS, WON_CHECKS, Diagnosis, TrainingData
from anamorph.training.folder import RunFolder
from small import BATCH, CASES, differing, images, make_run, source, state

STAGE = Stage(0, BATCH)


@pytest.mark.parametrize("case", list(CASES))
def test_a_check_changes_nothing(case: str) -> None:
    run, data = make_run(case), source(case)
    before, random = state(run), torch.get_rng_state()
    numbers, warnings = Diagnosis().check(run, TrainingData(data, data), STAGE, {})
    assert not differing(before, state(run))
    assert torch.equal(random, torch.get_rng_state())
    assert not warnings
    assert all(value >= 0 for value in numbers.values())
    if CASES[case].prior:
        assert set(numbers) == {"check/trained_nats_per_code", "check/held_out_nats_per_code"}
    else:
        assert ("check/diversity" in numbers) == (not case.startswith(("autoencoder", "vqvae", "audio")))
    again, _ = Diagnosis().check(run, TrainingData(data, data), STAGE, {})
    assert again == numbers


def test_diversity_is_that_of_the_data_for_a_model_that_repeats_them() -> None:
    run, data = make_run("stylealae"), images(80, case="stylealae")

    class Repeats(StyleALAE):
        def decode(self, codes: object, noise: object = "fixed") -> torch.Tensor:
            return data.take(0, diagnosis.SAMPLED).signals

    run.ema.model.__class__ = Repeats
    assert Diagnosis().check(run, TrainingData(data, data), STAGE, {})[0]["check/diversity"] == pytest.approx(1.0)


def warned(kind: str, numbers: list[float]) -> list[str]:
    """The warnings, or empty texts, of one kind at successive checks of a number."""
    diagnosis = Diagnosis()
    return [getattr(diagnosis, f"_{kind}")(number) for number in numbers]


def test_a_critic_that_wins_is_reported_after_some_checks() -> None:
    assert warned("critic", [0.01] * (WON_CHECKS - 1)) == [""] * (WON_CHECKS - 1)
    won = warned("critic", [1.2, 0.01, 0.5, *[0.01] * WON_CHECKS])
    assert [bool(w) for w in won] == [False] * (2 + WON_CHECKS) + [True]
    assert "--model.r1" in won[-1]
    assert not any(warned("critic", [1.386] * 10))


def test_samples_that_become_alike_are_reported() -> None:
    assert not any(warned("diversity", [0.01, 0.02, 0.1, 0.3]))  # they never were diverse: it is early
    assert not any(warned("diversity", [0.2, 0.6, 0.9, 0.95, 0.6, 0.5]))
    assert [bool(w) for w in warned("diversity", [0.2, 0.9, 0.6, 0.4])] == [False, False, False, True]


def test_an_encoder_that_stalls_is_reported() -> None:
    half = STALLED_CHECKS // 2
    assert not any(warned("inversion", [1.0 - 0.03 * i for i in range(STALLED_CHECKS)]))
    assert not any(warned("inversion", [0.2] * 3 * half))  # good enough
    stalled = warned("inversion", [0.9] * STALLED_CHECKS)
    assert [bool(w) for w in stalled] == [False] * (STALLED_CHECKS - 1) + [True]


def test_a_loss_that_jumps_is_reported() -> None:
    learning = [1483.0, 1251.2, 1230.6, 1220.0, 1217.3, 1210.1, 1206.0, 1207.4, 1199.0, 1203.2, 1195.5, 1198.0]
    noise = [2.31, 2.29, 2.33, 2.28, 2.30, 2.32, 2.27, 2.31, 2.34, 2.29]
    density = [0.4, -0.9, -1.6, -1.9, -2.0, -1.95, -2.1, -1.7]
    for well in (learning, noise, density, [-x for x in range(20)]):
        assert not any(warned("loss", [*map(float, well)]))
    for ill in ([*learning, 22008.0], [*learning, 1420.0], [*density, 3.0], [0.2, 0.02, 0.005, 0.0035, 0.003, 0.0031, 0.15]):
        assert [bool(w) for w in warned("loss", ill)] == [False] * (len(ill) - 1) + [True]
    assert "has jumped from 1196 to 1420" in warned("loss", [*learning, 1420.0])[-1]


@pytest.mark.parametrize(
    ("model", "config", "warnings"),
    [
        ("vae", VAEConfig(widths=(16,), z_dim=4), 1),
        ("vae", VAEConfig(widths=(16,), z_dim=4, kl_warmup=640), 0),
        ("alae", None, 0),
    ],
)
def test_only_a_loss_that_is_to_become_small_is_watched(
    model: str, config: VAEConfig | None, warnings: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "CHECKS", 8)
    monkeypatch.setattr(Diagnosis, "_loss", lambda self, loss: "it has jumped")
    folder = RunFolder(tmp_path / "run")
    new_settings(
        model,
        "digits",
        320,
        config=config or CASES["alae"].config,
        batch=BATCH,
        compute=ComputeRequest("cpu", "float32", 1, False),
    ).write(folder)
    with folder.locked():
        found = [text for status in open_training(folder).run_to_end() for text in status.warnings]
    assert found.count("it has jumped") == warnings


def test_a_warning_is_given_once_per_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "_numbers", lambda *_: {"check/diversity": 0.9})
    run, data, checks = make_run("stylealae"), images(80, case="stylealae"), Diagnosis()
    given = [
        len(checks.check(run, TrainingData(data, data), STAGE, {"critic/adversarial": 0.001})[1]) for _ in range(WON_CHECKS + 3)
    ]
    assert given == [0] * (WON_CHECKS - 1) + [1, 0, 0, 0]
    finer = Stage(1, BATCH)
    given = [
        len(checks.check(run, TrainingData(data, data), finer, {"critic/adversarial": 0.001})[1]) for _ in range(WON_CHECKS)
    ]
    assert given == [0] * (WON_CHECKS - 1) + [1]


def test_a_wasserstein_critic_is_not_judged_by_its_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss without a bound says nothing about who wins."""
    monkeypatch.setattr(diagnosis, "_numbers", lambda *_: {})
    for case, warnings in (("gan-wasserstein", 0), ("gan", 1)):
        run, data = make_run(case), source(case)
        critic = next(phase.name for phase in run.recipe.phases if phase.role == "critic")
        given = Diagnosis(level=0, won=9).check(run, TrainingData(data, data), STAGE, {f"{critic}/adversarial": 0.001})[1]
        assert len(given) == warnings


def test_a_training_logs_checks_and_warnings_and_a_resumed_one_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "WON", 100.0)  # every critic wins
    monkeypatch.setattr(session, "CHECKS", 8)
    machine = ComputeRequest("cpu", "float32", 1, False)

    def trained(name: str, *stops: int) -> tuple[list[dict[str, object]], list[str]]:
        folder = RunFolder(tmp_path / name)
        warnings: list[str] = []
        config = CASES["alae"].config
        new_settings("alae", "digits", 640, config=config, batch=BATCH, compute=machine).write(folder)
        with folder.locked():
            for end in (*stops, 640):
                training = open_training(folder)
                for status in training.run_to_end(lambda training=training, end=end: training.run.images >= end):  # type: ignore[misc]
                    warnings += status.warnings
        spent = ("seconds", "cpu_seconds")
        return [{k: v for k, v in record.items() if k not in spent} for record in folder.metrics()], warnings

    whole, warnings = trained("whole")
    assert len(warnings) == 1
    assert "the critic recognises nearly all generated images" in warnings[0]
    assert sum("check/diversity" in record for record in whole) == 8
    assert sum("check/code_error" in record for record in whole) == 8
    assert [record["warnings"] for record in whole if "warnings" in record] == [warnings]
    assert trained("resumed", 200, 424) == (whole, warnings)
