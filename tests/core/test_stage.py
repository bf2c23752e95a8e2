"""Growing against the schedules that both originals run."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from anamorph.core.errors import UserError
from anamorph.core.stage import Constant, Growing


def golden(name: str) -> dict[str, Any]:
    path = Path(os.environ.get("ANAMORPH_GOLDEN", "")) / name
    if "ANAMORPH_GOLDEN" not in os.environ or not path.is_file():
        pytest.skip(f"the reference schedule {name} is not at hand: set ANAMORPH_GOLDEN to its folder")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_it_is_stylegans_schedule() -> None:
    found = golden("stylegan/schedule.json")
    for row in found["rows"]:
        c, side = found["configs"][row["config"]], row["dataset_resolution"]
        start = min(c.get("lod_initial_resolution", 4), side)
        sides = [start * 2**i for i in range((side // start).bit_length())]
        per_process = [
            min(
                c.get("minibatch_dict", {}).get(str(s), c.get("minibatch_base", 16)) // c["num_gpus"],
                c.get("max_minibatch_per_gpu", {}).get(str(s), 1 << 30),
            )
            for s in sides
        ]
        stable, fade = (c.get(f"lod_{part}_kimg", 600) * 1000 for part in ("training", "transition"))
        growing = Growing(
            batches=tuple(n * c["num_gpus"] for n in per_process),
            lr_scales=tuple(c.get("G_lrate_dict", {}).get(str(s), 0.001) for s in sides),
            initial_images=stable,
            fade_images=fade,
            stable_images=max(stable, 1),
            warmup_images=c.get("lrate_rampup_kimg", 0) * 1000,
        )
        stage = growing.at(row["cur_nimg"])
        assert stage.level + 1 - stage.alpha == pytest.approx(row["lod"], abs=1e-9), row
        assert (side >> stage.level, stage.batch) == (row["resolution"], row["minibatch"]), row
        assert stage.lr_scale == pytest.approx(row["G_lrate"]), row


def test_it_is_alaes_schedule() -> None:
    checked = 0
    for name, found in golden("alae/lod_schedule.json").items():
        if name.startswith("_"):
            continue
        rows, size, span = found["rows"], found["dataset_size"], found["epochs_per_lod"]
        levels = found["layer_count"]
        by_lod = {row["lod"]: row for row in rows}
        if len(by_lod) < levels or not span:
            continue
        checked += 1
        order = [by_lod[lod] for lod in range(levels)]
        growing = Growing(
            batches=tuple(row["batch"] for row in order),
            lr_scales=tuple(row["lr_list_value"] for row in order),
            initial_images=span * size,
            fade_images=span // 2 * size,
            stable_images=(span - span // 2) * size,
            fade_curve="sine",
        )
        for before, row in pairwise([None, *rows]):
            assert row is not None
            for seen, blend in row["blend"]:
                stage = growing.at(row["epoch"] * size + seen)
                assert levels - 1 - stage.level == row["lod"], (name, row["epoch"])
                assert stage.alpha == pytest.approx(blend, abs=1e-9), (name, row["epoch"], seen)
                assert stage.batch == row["batch"]
                assert stage.lr_scale == pytest.approx(row["lr_list_value"])
            if before is not None:
                eras = (growing.at(before["epoch"] * size).optimizer_epoch, growing.at(row["epoch"] * size).optimizer_epoch)
                assert (eras[0] != eras[1]) == row["optimizer_state_reset"]
    assert checked >= 6


def test_moments_are_reset_at_both_ends_of_a_linear_fade_and_at_the_beginning_of_a_sine() -> None:
    places = (0, 99, 100, 101, 149, 150, 199, 200, 201, 250, 10_000)
    linear = Growing((8, 4, 2), (1.0, 1.0, 0.5), initial_images=100, fade_images=50, stable_images=50)
    sine = Growing((8, 4, 2), (1.0, 1.0, 0.5), initial_images=100, fade_images=50, stable_images=50, fade_curve="sine")
    assert [linear.at(place).optimizer_epoch for place in places] == [0, 0, 0, 1, 1, 2, 2, 2, 3, 4, 4]
    assert [sine.at(place).optimizer_epoch for place in places] == [0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2]
    assert [linear.at(place).level for place in places] == [2, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0]
    assert linear.at(125).alpha == sine.at(125).alpha == pytest.approx(0.5)
    assert linear.at(250).lr_scale == 0.5


def test_schedules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match="one batch and one lr-scale for each level"):
        Growing((8, 4), (1.0,), 1, 1, 1)
    with pytest.raises(UserError, match="at least 1"):
        Growing((8, 0), (1.0, 1.0), 1, 1, 1)
    with pytest.raises(UserError, match="at least one image"):
        Constant(0)
