"""The Python code of a point makes the image that is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from anamorph.core.space import write_codes
from anamorph.studio.bench import Bench
from anamorph.studio.code import python_of
from anamorph.studio.image_media import table
from anamorph.studio.points import (
    Along,
    Between,
    Cell,
    DecodeOptions,
    FromCodes,
    FromData,
    FromFile,
    FromSeed,
    Group,
    Mean,
    Mixed,
    Moved,
    Painted,
    Point,
    Redrawn,
    Truncated,
)
from anamorph.studio.stores import Store, digest_of
from studios import bench_of

S = [FromSeed(seed=i) for i in range(4)]
STYLED: list[Point] = [
    Truncated(of=S[0], psi=0.5, layers=(0, 1)),
    Moved(
        of=FromData(index=2),
        along=(Along(directions="pca", which=1, steps=2.0, layers=(2, 3)), Along(directions="sefa", which=0, steps=-1)),
    ),
    Mixed(of=Mean(of=(S[1], S[2])), source=S[3], layers=(0,)),
    Between(ends=(S[0], S[1]), x=0.3),
    Between(ends=(S[0], S[1], S[2], S[3]), x=0.3, y=0.8),
]


def run_script(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Run a script, and return the pixels of the picture that it writes."""
    monkeypatch.chdir(folder)
    exec(compile(text, "<script>", "exec"), {})
    return np.asarray(Pillow.open(folder / "picture.png"))


def same(bench: Bench, points: list[Point], look: DecodeOptions, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = run_script(python_of(bench, points, look, 3), folder, monkeypatch).astype(int)
    images = bench.see(points, look)
    (folder / "seen.png").write_bytes(table(torch.cat([images, images]), 3) if len(images) == 1 else table(images, 3))
    seen = np.asarray(Pillow.open(folder / "seen.png")).astype(int)
    if len(points) == 1:
        seen = seen[:, : written.shape[1]]
    assert written.shape == seen.shape
    assert np.abs(written - seen).max() <= 1


@pytest.mark.parametrize("point", STYLED, ids=lambda point: str(point.kind))
def test_each_point_of_a_styled_model(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: Point) -> None:
    same(bench_of(runs / "styled"), [point, S[0]], DecodeOptions(), tmp_path, monkeypatch)


def test_noise_groups_files_and_codes(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = bench_of(runs / "styled")
    Pillow.fromarray(np.full((20, 30, 3), (200, 30, 90), np.uint8)).save(tmp_path / "mine.png")
    content = (tmp_path / "mine.png").read_bytes()
    bench.files = Store(10_000, len)
    file = FromFile(digest=bench.files.put("a" * 32, content), name="mine.png")
    codes = bench.codes([S[1]])
    stored = FromCodes(digest=bench.stored_codes.put(digest_of(codes), codes))
    write_codes(tmp_path / f"codes-{stored.digest[:8]}.safetensors", codes, [bench.model.spaces[0]])
    name = bench.define(Group(name="mine", towards=(S[1], file), away=(S[2],)))
    moved = Moved(of=stored, along=(Along(directions=name, which=0, steps=0.5),))
    for look in (DecodeOptions(noise="off"), DecodeOptions(noise="fresh", noise_seed=4)):
        same(bench, [file, moved, S[3]], look, tmp_path, monkeypatch)


def test_codes_that_are_painted_and_sampled_anew(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    painted = Painted(of=FromSeed(seed=4, temperature=0.5, top_p=0.9), space="codes", cells=(Cell(y=1, x=1, code=3),))
    redrawn = Redrawn(of=FromData(index=1), places=((2, 2), (2, 3)), seed=1, temperature=0.7)
    same(bench_of(runs / "drawn"), [painted, redrawn], DecodeOptions(), tmp_path, monkeypatch)


def test_a_model_without_layers(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same(
        bench_of(runs / "plain"),
        [Mixed(of=S[0], source=FromData(index=0), share=0.25), S[1]],
        DecodeOptions(),
        tmp_path,
        monkeypatch,
    )
