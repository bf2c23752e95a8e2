from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from anamorph.cli.image_arguments import encode_arguments
from anamorph.core.errors import UserError
from anamorph.core.model import HasMapping, code_space, require
from anamorph.core.random import Seeded
from anamorph.core.space import Codes
from anamorph.edit.directions import move
from anamorph.edit.inpaint import inpaint
from anamorph.edit.interpolate import plane
from anamorph.edit.mix import mix
from anamorph.edit.truncate import truncate
from anamorph.studio.per_example_random import PerExampleRandom
from anamorph.studio.points import (
    Along,
    Between,
    Cell,
    DecodeOptions,
    FromCodes,
    FromData,
    FromSeed,
    Group,
    Mean,
    Mixed,
    Moved,
    Painted,
    Point,
    Redrawn,
    Truncated,
    check_size,
)
from studios import bench_of

ANY: TypeAdapter[Any] = TypeAdapter(Point)


def equal(a: Codes, b: Codes) -> bool:
    return all(torch.allclose(a[name], b[name], atol=1e-6) for name in a) and set(a) <= set(b)


def test_streams_give_the_same_numbers_alone_and_together() -> None:
    alone = [Seeded(seed, "seed").normal(1, 3) for seed in (7, 8)]
    streams = PerExampleRandom([Seeded(7, "seed"), Seeded(8, "seed")])
    assert torch.equal(streams.normal(2, 3), torch.cat(alone))
    assert torch.equal(streams.uniform(4, shared=True), _after(7).uniform(4))
    rest = [_after(seed) for seed in (7, 8)]
    for stream in rest:
        stream.uniform(4)
    assert torch.equal(streams.uniform(2, 2), torch.cat([stream.uniform(1, 2) for stream in rest]))


def _after(seed: int) -> Seeded:
    stream = Seeded(seed, "seed")
    stream.normal(1, 3)
    return stream


@pytest.mark.parametrize("run", ["styled", "plain", "drawn"])
def test_a_seed_and_an_image_are_those_of_the_command_line(runs: Path, run: str) -> None:
    bench = bench_of(runs / run)
    picked = encode_arguments(bench.model, runs / run, ["seed:7", "data:3", "seed:2"])
    codes = bench.codes([FromSeed(seed=7), FromData(index=3), FromSeed(seed=2)])
    for i, one in enumerate(picked):
        assert equal({name: value[i : i + 1] for name, value in codes.items()}, one.codes)
    original = bench.original(FromData(index=3))
    assert original is not None
    assert torch.equal(original, picked[1].image)


def test_points_are_the_edits_that_they_name(runs: Path) -> None:
    bench = bench_of(runs / "styled")
    model = require(bench.model, HasMapping, "truncation")
    space = code_space(model)
    a, b, c, d = (bench.codes([FromSeed(seed=i)]) for i in range(4))
    points = [FromSeed(seed=i) for i in range(4)]

    def one(codes: Codes) -> Codes:
        return {name: value[0] for name, value in codes.items()}

    assert equal(bench.codes([Truncated(of=points[0], psi=0.4, layers=(0, 1))]), truncate(a, model.w_mean, 0.4, (0, 1)))
    assert equal(bench.codes([Mixed(of=points[0], source=points[1], layers=(2,))]), mix(a, b, (2,), model.spaces))
    whole = plane([one(a), one(b), one(c), one(d)], 3, 3)
    found = bench.codes([Between(ends=tuple(points), x=0.5, y=1.0), Between(ends=tuple(points), x=1.0, y=0.5)])
    assert equal(found, {name: value[[7, 5]] for name, value in whole.items()})
    assert equal(bench.codes([Mean(of=(points[0], points[1]))]), {"w": (a["w"] + b["w"]) / 2})
    moved = Moved(of=points[0], along=(Along(directions="sefa", which=1, steps=1.5, layers=(0,)),))
    assert equal(bench.codes([moved]), move(a, bench.direction_sets.of("sefa"), 1, 1.5, space, (0,)))


def test_a_group_makes_a_direction_from_one_to_the_other(runs: Path) -> None:
    bench = bench_of(runs / "styled")
    group = Group(name="mine", towards=(FromSeed(seed=1), FromSeed(seed=2)), away=(FromSeed(seed=3),))
    name = bench.define(group)
    found = bench.direction_sets.of(name)
    steps = found.measures["distance"][0]
    moved = bench.codes([Moved(of=FromSeed(seed=3), along=(Along(directions=name, which=0, steps=steps),))])
    assert equal(moved, bench.codes([Mean(of=group.towards)]))
    assert bench.define(group) == name
    with pytest.raises(UserError, match="same mean"):
        bench.define(Group(name="none", towards=(FromSeed(seed=1),), away=(FromSeed(seed=1),)))


def test_labels_give_directions(runs: Path) -> None:
    bench = bench_of(runs / "styled")
    assert {"pca", "sefa", "labels:shape"} <= set(bench.direction_sets.names())
    found = bench.direction_sets.of("labels:shape")
    assert len(found) >= 2
    assert all(0 <= value <= 1 for value in found.measures["balanced accuracy"])


def test_codes_are_painted_and_sampled_anew(runs: Path) -> None:
    bench = bench_of(runs / "drawn")
    codes = bench.codes([FromSeed(seed=1)])
    painted = Painted(of=FromSeed(seed=1), space="codes", cells=(Cell(y=1, x=2, code=5),))
    found = bench.codes([painted])["codes"]
    assert int(found[0, 0, 1, 2]) == 5
    assert int((found != codes["codes"]).sum()) <= 1
    redrawn = Redrawn(of=FromSeed(seed=1), places=((3, 3),), seed=2)
    mask = torch.zeros(bench.grid, dtype=torch.bool)
    mask[3, 3] = True
    assert equal(bench.codes([redrawn]), inpaint(bench.model, codes, mask, 1, Seeded(2, "inpaint")))  # type: ignore[arg-type]
    for wrong, message in (
        (Painted(of=FromSeed(seed=1), space="codes", cells=(Cell(y=9, x=0, code=0),)), "the grid has 1 maps of 4x4"),
        (Painted(of=FromSeed(seed=1), space="w", cells=()), "no grid of codes 'w'"),
        (Mean(of=(FromSeed(seed=1),)), "are discrete and have no mean"),
        (Redrawn(of=FromSeed(seed=1), places=((9, 0),), seed=0), "has 4 rows"),
    ):
        with pytest.raises(UserError, match=message):
            bench.codes([wrong])


def test_random_noise_depends_on_its_seed_and_not_on_the_batch(runs: Path) -> None:
    bench = bench_of(runs / "styled")
    look = DecodeOptions(noise="fresh", noise_seed=3)
    alone, together = bench.see([FromSeed(seed=1)], look), bench.see([FromSeed(seed=5), FromSeed(seed=1)], look)
    assert torch.allclose(alone[0], together[1], atol=1e-4)
    assert not torch.allclose(alone, bench.see([FromSeed(seed=1)], DecodeOptions(noise="fresh", noise_seed=4)), atol=1e-2)


@pytest.mark.parametrize(
    "text",
    [
        '{"kind": "seed"}',
        '{"kind": "seed", "seed": -1}',
        '{"kind": "seed", "seed": 1.5}',
        '{"kind": "seed", "seed": 1, "path": "/etc/passwd"}',
        '{"kind": "file", "digest": "../../etc/passwd"}',
        '{"kind": "truncate", "of": {"kind": "seed", "seed": 1}, "psi": NaN}',
        '{"kind": "move", "of": {"kind": "seed", "seed": 1}, "along": [{"directions": "pca", "which": 0, "steps": 1e9}]}',
        '{"kind": "between", "ends": [%s, %s, %s], "x": 0}' % (('{"kind": "seed", "seed": 1}',) * 3),
        '{"kind": "codes", "digest": "zz"}',
        '{"kind": "exec", "seed": 1}',
        "[]",
    ],
)
def test_invalid_points_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        ANY.validate_json(text)


def test_points_have_a_largest_size() -> None:
    deep: Any = FromSeed(seed=1)
    for _ in range(50):
        deep = Truncated(of=deep, psi=1.0)
    with pytest.raises(UserError, match="nested deeper than 40"):
        check_size([deep])
    with pytest.raises(UserError, match="145 pictures were requested at once"):
        check_size([FromSeed(seed=1)] * 145)
    wide = Mean(of=(Mean(of=(FromSeed(seed=1),) * 64),) * 64)
    with pytest.raises(UserError, match="at most 4000 are accepted: request fewer"):
        check_size([wide])


def test_references_to_nothing_are_reported(runs: Path) -> None:
    bench = bench_of(runs / "styled")
    for point, message in (
        (FromCodes(digest="0" * 32), "made in another studio"),
        (Moved(of=FromSeed(seed=1), along=(Along(directions="0" * 32, which=0, steps=1),)), "made in another studio"),
        (Moved(of=FromSeed(seed=1), along=(Along(directions="pca", which=99, steps=1),)), "numbered from 0; got 99"),
        (Moved(of=FromSeed(seed=1), along=(Along(directions="../x", which=0, steps=1),)), "no directions"),
        (FromData(index=10**6), "numbered from 0"),
        (FromSeed(seed=1, temperature=0.5), "a temperature or top-p needs a model that has a prior over its codes"),
        (FromSeed(seed=1, labels=(("class", 1),)), "not conditioned on class"),
    ):
        with pytest.raises(UserError, match=message):
            bench.codes([point])
