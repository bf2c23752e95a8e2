"""Decoded images are kept, shared, distinguished, and made again where they are damaged."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from anamorph.data import shards
from anamorph.data.dataset import Dataset
from anamorph.data.open import open_source


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(np.full((12, 12, 3), value, np.uint8)).save(path)


def folder(root: Path, n: int) -> None:
    for i in range(n):
        picture(root / f"{i:03}.png", i * 4)


def everything(source: Dataset) -> torch.Tensor:
    return source.in_order().take(0, source.size).signals


def test_decoding_happens_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path, 5)
    first = open_source(f"{tmp_path}:all")

    def fail(*arguments: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("anamorph.data.image_files.decode", fail)
    again = open_source(f"{tmp_path}:all")
    assert torch.equal(everything(first), everything(again))
    assert first.fingerprint == again.fingerprint


def test_a_changed_file_is_decoded_again_and_changes_the_fingerprint(tmp_path: Path) -> None:
    folder(tmp_path, 5)
    first = open_source(f"{tmp_path}:all")
    picture(tmp_path / "003.png", value=255)
    again = open_source(f"{tmp_path}:all")
    assert float(everything(again)[3].min()) == 1.0
    assert first.fingerprint != again.fingerprint


def test_folders_that_differ_in_their_pixels_alone_share_none(tmp_path: Path) -> None:
    for name, value in (("a", 10), ("b", 200)):
        picture(tmp_path / name / "0.bmp", value=value)
        os.utime(tmp_path / name / "0.bmp", ns=(0, 0))
        np.savez(tmp_path / name / "x.npz", x=np.full((2, 4, 4), value, np.uint8))
        os.utime(tmp_path / name / "x.npz", ns=(0, 0))
    for file in ("x.npz", ""):
        a, b = (float(everything(open_source(f"{tmp_path / name / file}:all")).max()) for name in ("a", "b"))
        assert a < 0 < b
        for name in ("a", "b"):
            (tmp_path / name / "x.npz").unlink(missing_ok=True)


@pytest.mark.parametrize("damage", ["cut", "altered", "index", "gone", "kept cut", "kept altered"])
def test_a_damaged_cache_is_built_again(tmp_path: Path, damage: str) -> None:
    folder(tmp_path, 5)
    before = everything(open_source(f"{tmp_path}:all"))
    (shard,) = (shards.cache_folder() / "shards").rglob("*.u8")
    data, kept = shard.read_bytes(), (shard.parent / "kept").read_bytes()
    if damage == "cut":
        shard.write_bytes(data[:-5])
    elif damage == "altered":
        shard.write_bytes(b"\0" * len(data))
    elif damage == "index":
        (shard.parent / "index.json").write_text("{")
    elif damage == "kept cut":
        (shard.parent / "kept").write_bytes(kept[:16])
    elif damage == "kept altered":
        (shard.parent / "kept").write_bytes(bytes(len(kept)))
    else:
        shard.unlink()
    assert torch.equal(everything(open_source(f"{tmp_path}:all")), before)
    assert (shard.parent / "kept").read_bytes() == kept


def test_many_shards_are_read_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path, 11)
    whole = everything(open_source(f"{tmp_path}:all"))
    monkeypatch.setattr(shards, "SHARD_BYTES", 3 * 12 * 12 * 3 + 7)  # three images each
    monkeypatch.setattr(shards, "VERSION", -1)
    source = open_source(f"{tmp_path}:all")
    assert len(list((shards.cache_folder() / "shards").rglob("*.u8"))) == 1 + 4
    assert torch.equal(everything(source), whole)
    assert torch.equal(source.in_order().take(4, 5).signals, whole[4:9])


def _open_in_process(path: str, start: object, results: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    source = open_source(f"{path}:all")
    results.put(float(everything(source).double().sum()))  # type: ignore[attr-defined]


def test_two_processes_may_build_the_cache_at_once(tmp_path: Path) -> None:
    folder(tmp_path, 60)
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_open_in_process, args=(str(tmp_path), start, results)) for _ in range(3)]
    for process in processes:
        process.start()
    sums = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert len(set(sums)) == 1
    assert len(list((shards.cache_folder() / "shards").iterdir())) == 1


def test_interrupted_building_leaves_nothing(tmp_path: Path) -> None:
    folder(tmp_path, 20)

    def interrupt(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_source(str(tmp_path), progress=interrupt)
    assert not list((shards.cache_folder() / "shards").iterdir())
    assert open_source(f"{tmp_path}:all").size == 20


def test_what_a_killed_build_has_left_is_deleted_after_a_day(tmp_path: Path) -> None:
    folder(tmp_path, 3)
    open_source(str(tmp_path))
    (made,) = (shards.cache_folder() / "shards").iterdir()
    made.rename(made.with_name(f".{made.name}.killed"))
    killed = made.with_name(f".{made.name}.killed")
    another, running = made.with_name(".another.killed"), made.with_name(f".{made.name}.running")
    another.mkdir()
    running.mkdir()
    (running / "00000.u8").write_bytes(b"some")
    long_ago = time.time() - 2 * 24 * 3600
    for path in (*killed.iterdir(), killed, another, running):
        os.utime(path, (long_ago, long_ago))
    open_source(str(tmp_path))
    assert {path.name for path in made.parent.iterdir()} == {made.name, another.name, running.name}
