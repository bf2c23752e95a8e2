from __future__ import annotations

import pytest
import torch

from anamorph.core.errors import UserError
from anamorph.training import autotune as machine
from anamorph.training.autotune import ComputeRequest, apply_compute_settings, autotune, cpu_count
from anamorph.training.run import ComputeSettings, Run
from small import images, make_run


def build(wanted: ComputeSettings) -> Run:
    return make_run("alae", wanted)


@pytest.mark.parametrize("can_compile", [True, pytest.param(None, marks=pytest.mark.slow)])
def test_what_is_decided_is_kept(can_compile: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether torch can compile here is really tried in the slow case."""
    if can_compile:
        monkeypatch.setattr(machine, "_can_compile", lambda: True)
    decided = ComputeRequest("cpu", "bfloat16", 1, True, 2)
    assert autotune(decided, build, images(), 10) == ComputeSettings("cpu", "bfloat16", 1, True, 2)


def test_what_is_open_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    speeds = {("float32", 1): 10.0, ("float32", 4): 15.0, ("bfloat16", 1): 12.0, ("bfloat16", 4): 30.0}
    monkeypatch.setattr(machine, "cpu_count", lambda: 4)
    monkeypatch.setattr(machine, "_time", lambda found, *_: {m: speeds[m.precision, m.threads] for m in found})
    monkeypatch.setattr(machine, "_can_compile", lambda: True)
    assert autotune(ComputeRequest("cpu"), build, images(), 100) == ComputeSettings("cpu", "bfloat16", 4, False)
    assert autotune(ComputeRequest("cpu"), build, images(), 100_000) == ComputeSettings("cpu", "bfloat16", 4, True)
    assert autotune(ComputeRequest("cpu"), build, images(), 100_000, num_graphs=100) == ComputeSettings(
        "cpu", "bfloat16", 4, False
    )
    assert autotune(ComputeRequest("cpu", compiled=False), build, images(), 100_000) == ComputeSettings(
        "cpu", "bfloat16", 4, False
    )
    assert autotune(ComputeRequest("cpu", "float32"), build, images(), 100) == ComputeSettings("cpu", "float32", 4, False)
    speeds["bfloat16", 4] = 17.0  # not worth the loss of precision
    assert autotune(ComputeRequest("cpu"), build, images(), 100) == ComputeSettings("cpu", "float32", 4, False)


def test_the_environments_threads_are_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(machine, "cpu_count", lambda: 8)
    assert autotune(ComputeRequest("cpu", "float32"), build, images(), 10).threads == 1
    assert autotune(ComputeRequest("cpu", "float32", 3, False), build, images(), 10).threads == 3


def test_timing_leaves_the_process_as_it_was() -> None:
    before = torch.get_num_threads(), torch.get_rng_state()
    speeds = machine._time([ComputeSettings(), ComputeSettings(precision="bfloat16")], build, images(), 10)
    assert all(speed > 0 for speed in speeds.values())
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize("choice", [ComputeRequest(device="cuda:77"), ComputeRequest(device="abacus")])
def test_a_device_that_is_not_there_is_named(choice: ComputeRequest) -> None:
    with pytest.raises(UserError, match="is not available .*use the device cpu"):
        autotune(choice, build, images(), 10)


def test_threads_must_be_some() -> None:
    with pytest.raises(UserError, match="threads must be at least 1"):
        autotune(ComputeRequest(threads=0), build, images(), 10)


def test_settling_sets_the_threads() -> None:
    before = torch.get_num_threads()
    apply_compute_settings(ComputeSettings(threads=1))
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)
    assert cpu_count() >= 1


def test_a_machine_says_what_it_is() -> None:
    assert str(ComputeSettings("cpu", "bfloat16", 2, True)) == "cpu, bfloat16, 2 threads, compiled"
    assert str(ComputeSettings(threads=1, gradient_accumulation=4)) == "cpu, float32, 1 thread, 4 micro-batches"
