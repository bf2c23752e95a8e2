"""Drawn shapes, layered parts, and the public sets."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anamorph.core.errors import UserError
from anamorph.core.signal import Image
from anamorph.data import public_datasets as named
from anamorph.data.layered_images import Layer, LayeredImages
from anamorph.data.open import ReadOptions, open_source
from anamorph.data.public_datasets import PublicDataset, locate
from anamorph.data.shapes import COUNTS, NAMES, Shapes, factors


def test_the_factors_of_shapes_are_its_labels() -> None:
    source = open_source("shapes:all").in_order()
    assert [label.name for label in source.labels] == list(NAMES)
    batch = source.take(100_000, 50)
    wanted = factors(np.arange(100_000, 100_050))
    for i, name in enumerate(NAMES):
        assert batch.labels[name].tolist() == wanted[:, i].tolist()
        assert len(source.labels[i].classes) == COUNTS[i]


@given(st.integers(0, int(np.prod(COUNTS)) - 1), st.sampled_from([(16, 16), (32, 48), (40, 24)]))
@settings(max_examples=40, deadline=None)
def test_a_shape_lies_where_its_factors_say(row: int, size: tuple[int, int]) -> None:
    height, width = size
    image = Shapes(Image(3, height, width)).read(np.array([row]))[0].astype(float)
    _, scale, _, x, y, _ = factors(np.array([row]))[0]
    cover = image.max(0) / 255
    side, mass = min(size), cover.sum()
    centre_x = ((np.arange(width) + 0.5) * cover.sum(0)).sum() / mass / side
    centre_y = ((np.arange(height) + 0.5) * cover.sum(1)).sum() / mass / side
    half = 0.10 + 0.10 * scale / 4
    assert abs(centre_x - (0.4 + x / 11 * (width / side - 0.8))) < 0.05 + half / 4
    assert abs(centre_y - (0.4 + y / 11 * (height / side - 0.8))) < 0.05 + half / 4
    areas = {0: 4 * 1.6 * 0.8, 1: np.pi * 2, 2: 3.0}  # times half^2
    wanted = areas[int(factors(np.array([row]))[0][0])] * half**2
    assert mass / side**2 == pytest.approx(wanted, rel=0.15)
    assert image[:, cover > 0.99].std(1).max(initial=0) < 3  # one colour
    edge = np.concatenate([cover[0], cover[-1], cover[:, 0], cover[:, -1]])
    assert edge.max() < 0.9  # nothing is cut off


def test_no_two_sets_of_factors_look_alike() -> None:
    rows = np.random.default_rng(0).choice(int(np.prod(COUNTS)), 3000, replace=False)
    images = Shapes(Image(3, 48, 48)).read(rows)
    assert len({image.tobytes() for image in images}) == 3000


def test_shapes_come_in_any_size_and_channels() -> None:
    for channels, size in ((1, (20, 30)), (4, (64, 64))):
        source = open_source("shapes", ReadOptions(size, channels))
        assert source.take(0, 3).signals.shape == (3, channels, *size)


def layers() -> list[Layer]:
    base = np.zeros((2, 8, 8, 4), np.uint8)
    base[0, ..., :] = (255, 0, 0, 255)
    base[1, ..., :] = (0, 0, 255, 255)
    dot = np.zeros((4, 8, 8, 4), np.uint8)
    dot[1, 2:4, 2:6] = (0, 255, 0, 128)
    dot[2, 2:4, 2:6] = (0, 255, 0, 128)  # the same again
    dot[3, 0, 0] = (9, 9, 9, 0)  # invisible: the same as none
    return [Layer.of("base", base), Layer.of("dot", dot)]


def test_parts_are_composed_over_each_other_and_told_as_labels() -> None:
    parts = LayeredImages(layers(), 8, Image(3, 8, 8))
    assert [len(label.classes) for label in parts.labels] == [2, 2]
    assert len(parts) == 4
    images = parts.read(np.arange(4))
    assert parts.choices.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert (images[0] == np.array([255, 0, 0])[:, None, None]).all()
    under = images[1].transpose(1, 2, 0)
    assert (under[:2] == (255, 0, 0)).all()
    assert np.abs(under[2:4, 2:6] - np.array([127, 128, 0])).max() <= 1


def test_parts_are_reduced_by_boxes_and_lie_on_white() -> None:
    half = np.zeros((1, 8, 8, 4), np.uint8)
    half[0, :, :2] = (0, 0, 0, 255)
    image = LayeredImages([Layer.of("half", half)], 8, Image(1, 2, 2)).read(np.array([0]))[0]
    assert image[0].tolist() == [[128, 255], [128, 255]]
    with pytest.raises(UserError, match="choose one of the sizes 8, 4, 2"):
        LayeredImages(layers(), 8, Image(3, 3, 3))


@pytest.mark.parametrize(
    ("name", "signal", "train", "test"),
    [
        ("mnist", Image(1, 28, 28), 60_000, 10_000),
        ("fashion-mnist", Image(1, 28, 28), 60_000, 10_000),
        ("eurosat", Image(3, 64, 64), 4500, 500),
    ],
)
def test_public_sets_have_their_official_split(real_data: Path, name: str, signal: Image, train: int, test: int) -> None:
    source, held = open_source(name), open_source(f"{name}:test")
    assert (source.signal, source.size, held.size) == (signal, train, test)
    assert len(source.labels[0].classes) == 10
    batch = source.take(0, 100)
    assert -1 <= float(batch.signals.min()) < float(batch.signals.max()) <= 1


def test_cats_are_every_combination_of_their_parts(real_data: Path) -> None:
    source = open_source("avatars-cats:all", ReadOptions((32, 32)))
    assert source.size == 324_000
    assert [len(label.classes) for label in source.labels] == [15, 9, 15, 10, 16]
    small, whole = (
        open_source("avatars-cats:all", ReadOptions(s)).in_order().take(7, 3).signals for s in ((32, 32), (128, 128))
    )
    torch.testing.assert_close(small, torch.nn.functional.avg_pool2d(whole, 4), atol=0.01, rtol=0)


def test_people_are_picked_from_too_many_combinations(real_data: Path) -> None:
    source = open_source("avatars-people:all", ReadOptions((16, 16)))
    assert source.size == 400_000
    assert torch.equal(source.take(5, 2).signals, open_source("avatars-people:all", ReadOptions((16, 16))).take(5, 2).signals)


def test_emoji_keep_their_transparency_and_hold_out_whole_designs(real_data: Path) -> None:
    train, test = open_source("emoji"), open_source("emoji:test")
    assert train.signal == Image(4, 64, 64)
    assert train.size + test.size == 3573
    assert not set(train.rows) & set(test.rows)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on this machine, and the folder that it serves."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    (tmp_path / "web").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "web"))) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/", tmp_path / "web"
        http.shutdown()
        thread.join()


def test_a_set_is_fetched_once_and_checked(server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    url, web = server
    monkeypatch.delenv("ANAMORPH_DATA", raising=False)
    (web / "x.bin").write_bytes(b"content")
    known = PublicDataset("some", "", "", {"x.bin": hashlib.sha256(b"content").hexdigest()}, url)
    monkeypatch.setitem(named.PUBLIC_DATASETS, "some", known)
    folder = locate("some")
    assert (folder / "x.bin").read_bytes() == b"content"
    (web / "x.bin").unlink()
    assert locate("some") == folder


def test_a_set_that_is_not_what_it_should_be_is_refused(server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    url, web = server
    monkeypatch.delenv("ANAMORPH_DATA", raising=False)
    (web / "x.bin").write_bytes(b"something else")
    monkeypatch.setitem(named.PUBLIC_DATASETS, "some", PublicDataset("some", "", "", {"x.bin": "0" * 64}, url))
    with pytest.raises(UserError, match="has another content than expected"):
        locate("some")
    monkeypatch.setitem(named.PUBLIC_DATASETS, "some", PublicDataset("some", "", "", {"y.bin": "0" * 64}, url))
    with pytest.raises(UserError, match=r"cannot fetch .*y\.bin.* put y\.bin into \$ANAMORPH_DATA/some"):
        locate("some")


def test_sets_that_are_nowhere_say_where_to_put_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANAMORPH_DATA", raising=False)
    with pytest.raises(UserError, match=r"no stable address.*put eurosat64_rgb\.npz into \$ANAMORPH_DATA/eurosat"):
        open_source("eurosat")
    with pytest.raises(UserError, match="the set mnist is not at hand"):
        open_source("mnist")
