from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from anamorph.core.errors import UserError
from anamorph.core.files import atomic_write, read_json, read_tensors, write_json, write_tensors


def test_tensors_and_facts_return(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.safetensors"
    write_tensors(path, {"a": torch.arange(6).view(2, 3).T}, {"step": "3"})
    tensors, facts = read_tensors(path)
    assert torch.equal(tensors["a"], torch.arange(6).view(2, 3).T)
    assert facts == {"step": "3"}
    assert [p.name for p in path.parent.iterdir()] == ["x.safetensors"]


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.zeros(10)}, {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # writing more fails, as on a full disk
    try:
        with pytest.raises(OSError, match=r"x\.safetensors"):
            write_tensors(path, {"a": torch.zeros(10_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(read_tensors(path)[0]["a"]) == 10
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    (tmp_path / "x.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"x\.json"):
        read_json(tmp_path / "x.json")
    with pytest.raises(UserError, match=r"x\.safetensors"):
        read_tensors(tmp_path / "x.safetensors")
