"""Several processes train as one does."""

from __future__ import annotations

import os
import socket
from itertools import islice
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.multiprocessing.spawn import spawn

from anamorph.core.parallel import mean_over_processes, rank, sum_over_processes, world_size
from anamorph.training.loop import train
from anamorph.training.run import ComputeSettings
from small import images, make_run, state


def _work(number: int, port: int, case: str, out: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=number, world_size=2)
    run = make_run(case, ComputeSettings(gradient_accumulation=2))
    ticks = list(islice(train(run, images()), 3))
    terms = {f"term/{name}": torch.tensor(value) for name, value in ticks[-1].losses.items()}
    save_file({**run.tensors(), **terms}, f"{out}/{number}.safetensors")
    dist.destroy_process_group()


@pytest.mark.parametrize("case", ["alae", pytest.param("vae", marks=pytest.mark.slow)])
def test_two_processes_with_micro_batches_are_one(case: str, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn(_work, (port, case, str(tmp_path)), nprocs=2)
    first, second = (load_file(tmp_path / f"{i}.safetensors") for i in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    alone = make_run(case)
    ticks = list(islice(train(alone, images()), 3))
    for name, value in ticks[-1].losses.items():
        assert float(first[f"term/{name}"]) == pytest.approx(value, rel=1e-3)
    for name, tensor in state(alone).items():
        torch.testing.assert_close(first[name], tensor, rtol=1e-2, atol=2e-3, msg=name)


def test_alone_a_sum_is_itself() -> None:
    value = torch.arange(3.0)
    sum_over_processes([value])
    mean_over_processes([value])
    assert value.tolist() == [0, 1, 2]
    assert (rank(), world_size()) == (0, 1)
