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
from small import BATCH, CASES, differing, images, make_run, state

STAGE = Stage(0, BATCH)


@pytest.mark.parametrize("case", list(CASES))
def test_looking_changes_nothing(case: str) -> None:
    run, source = make_run(case), images(80, case=case)
    before, random = state(run), torch.get_rng_state()
    numbers, warnings = Diagnosis().check(run, TrainingData(source, source), STAGE, {})
    assert not differing(before, state(run))
    assert torch.equal(random, torch.get_rng_state())
    assert not warnings
    assert all(value >= 0 for value in numbers.values())
    assert ("check/diversity" in numbers) == (not case.startswith(("autoencoder", "vqvae", "audio")))
    again, _ = Diagnosis().check(run, TrainingData(source, source), STAGE, {})
    assert again == numbers


def test_diversity_is_that_of_the_data_for_a_model_that_repeats_them() -> None:
    run, source = make_run("stylealae"), images(80, case="stylealae")

    class Repeats(StyleALAE):
        def decode(self, codes: object, noise: object = "fixed") -> torch.Tensor:
            return source.take(0, diagnosis.SAMPLED).signals

    run.ema.model.__class__ = Repeats
    assert Diagnosis().check(run, TrainingData(source, source), STAGE, {})[0]["check/diversity"] == pytest.approx(1.0)


def heard(looks: Diagnosis, **values: list[float]) -> list[list[str]]:
    """The warnings at successive checks of numbers of one kind."""
    (kind, numbers), found = next(iter(values.items())), []
    for number in numbers:
        text = getattr(looks, f"_{kind}")(number)
        found.append([text] if text else [])
    return found


def test_a_discriminator_that_wins_is_told_after_some_checks() -> None:
    assert heard(Diagnosis(), critic=[0.01] * (WON_CHECKS - 1)) == [[]] * (WON_CHECKS - 1)
    won = heard(Diagnosis(), critic=[1.2, 0.01, 0.5, *[0.01] * WON_CHECKS])
    assert [bool(w) for w in won] == [False] * (2 + WON_CHECKS) + [True]
    assert "--model.r1" in won[-1][0]
    assert not any(heard(Diagnosis(), critic=[1.386] * 10))


def test_samples_that_become_alike_are_told() -> None:
    assert not any(heard(Diagnosis(), diversity=[0.01, 0.02, 0.1, 0.3]))  # they never were diverse: it is early
    assert not any(heard(Diagnosis(), diversity=[0.2, 0.6, 0.9, 0.95, 0.6, 0.5]))
    assert [bool(w) for w in heard(Diagnosis(), diversity=[0.2, 0.9, 0.6, 0.4])] == [False, False, False, True]


def test_an_encoder_that_stalls_is_told() -> None:
    half = STALLED_CHECKS // 2
    assert not any(heard(Diagnosis(), reciprocity=[1.0 - 0.03 * i for i in range(STALLED_CHECKS)]))
    assert not any(heard(Diagnosis(), reciprocity=[0.2] * 3 * half))  # good enough
    stalled = heard(Diagnosis(), reciprocity=[0.9] * STALLED_CHECKS)
    assert [bool(w) for w in stalled] == [False] * (STALLED_CHECKS - 1) + [True]


def test_a_loss_that_jumps_is_told() -> None:
    learning = [1483.0, 1251.2, 1230.6, 1220.0, 1217.3, 1210.1, 1206.0, 1207.4, 1199.0, 1203.2, 1195.5, 1198.0]
    noise = [2.31, 2.29, 2.33, 2.28, 2.30, 2.32, 2.27, 2.31, 2.34, 2.29]
    density = [0.4, -0.9, -1.6, -1.9, -2.0, -1.95, -2.1, -1.7]
    for well in (learning, noise, density, [-x for x in range(20)]):
        assert not any(heard(Diagnosis(), loss=[*map(float, well)]))
    for ill in ([*learning, 22008.0], [*learning, 1420.0], [*density, 3.0], [0.2, 0.02, 0.005, 0.0035, 0.003, 0.0031, 0.15]):
        assert [bool(w) for w in heard(Diagnosis(), loss=ill)] == [False] * (len(ill) - 1) + [True]
    assert "has jumped from 1196 to 1420" in heard(Diagnosis(), loss=[*learning, 1420.0])[-1][0]


@pytest.mark.parametrize(
    ("model", "config", "told"),
    [
        ("vae", VAEConfig(widths=(16,), z_dim=4), 1),
        ("vae", VAEConfig(widths=(16,), z_dim=4, kl_warmup=640), 0),
        ("alae", None, 0),
    ],
)
def test_only_a_loss_that_is_to_become_small_is_watched(
    model: str, config: VAEConfig | None, told: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    assert found.count("it has jumped") == told


def test_a_warning_is_given_once_per_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "_numbers", lambda *_: {"check/diversity": 0.9})
    run, source, looks = make_run("stylealae"), images(80, case="stylealae"), Diagnosis()
    given = [
        len(looks.check(run, TrainingData(source, source), STAGE, {"critic/adversarial": 0.001})[1])
        for _ in range(WON_CHECKS + 3)
    ]
    assert given == [0] * (WON_CHECKS - 1) + [1, 0, 0, 0]
    wasserstein = {"critic/adversarial": 0.001, "critic/slope": 0.1}
    assert not any(
        Diagnosis(level=0, won=9).check(run, TrainingData(source, source), STAGE, wasserstein)[1] for _ in range(WON_CHECKS)
    )
    finer = Stage(1, BATCH)
    given = [
        len(looks.check(run, TrainingData(source, source), finer, {"critic/adversarial": 0.001})[1]) for _ in range(WON_CHECKS)
    ]
    assert given == [0] * (WON_CHECKS - 1) + [1]


def test_a_training_logs_checks_and_warnings_and_a_resumed_one_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "WON", 100.0)  # every discriminator wins
    monkeypatch.setattr(session, "CHECKS", 8)
    machine = ComputeRequest("cpu", "float32", 1, False)

    def trained(name: str, *stops: int) -> tuple[list[dict[str, object]], list[str]]:
        folder = RunFolder(tmp_path / name)
        told: list[str] = []
        config = CASES["alae"].config
        new_settings("alae", "digits", 640, config=config, batch=BATCH, compute=machine).write(folder)
        with folder.locked():
            for end in (*stops, 640):
                training = open_training(folder)
                for status in training.run_to_end(lambda training=training, end=end: training.run.images >= end):  # type: ignore[misc]
                    told += status.warnings
        spent = ("seconds", "cpu_seconds")
        return [{k: v for k, v in record.items() if k not in spent} for record in folder.metrics()], told

    whole, told = trained("whole")
    assert len(told) == 1
    assert "discriminator" in told[0]
    assert sum("check/diversity" in record for record in whole) == 8
    assert sum("check/code_error" in record for record in whole) == 8
    assert [record["warnings"] for record in whole if "warnings" in record] == [told]
    assert trained("resumed", 200, 424) == (whole, told)
