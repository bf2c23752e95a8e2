from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from imageio_ffmpeg import read_frames
from PIL import Image as Pillow

from anamorph.core.errors import UserError
from anamorph.figures.bars import save_bars, save_ranked
from anamorph.figures.codebook import CodebookView, save_codebooks
from anamorph.figures.curves import save_curves
from anamorph.figures.grid import LARGEST_SIDE, Row, as_picture, rows_of, save_grid, save_picture, sheet
from anamorph.figures.matrix import save_matrices
from anamorph.figures.video import save_video


def test_a_picture_has_the_values_of_its_image() -> None:
    image = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).expand(3, 2, 5)
    array = np.asarray(as_picture(image))
    assert array.shape == (2, 5, 3)
    assert array[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert as_picture(torch.zeros(1, 4, 4)).mode == "L"
    assert as_picture(torch.zeros(2, 4, 4)).mode == "RGB"
    assert as_picture(torch.zeros(4, 4, 4)).mode == "RGBA"


@pytest.mark.parametrize(("count", "columns", "wanted"), [(10, None, [4, 4, 2]), (10, 5, [5, 5]), (1, None, [1])])
def test_images_fill_rows(count: int, columns: int | None, wanted: list[int]) -> None:
    assert [len(row.images) for row in rows_of(torch.zeros(count, 1, 2, 2), columns)] == wanted


def test_a_sheet_shows_every_image_where_it_belongs() -> None:
    values = torch.linspace(-1, 1, 6).view(6, 1, 1, 1).expand(6, 1, 64, 64)
    page = np.asarray(sheet(rows_of(values, 3)).paint().convert("L")).astype(int)
    found = [page[12 + 32 + 68 * r, 12 + 32 + 68 * c] for r in range(2) for c in range(3)]
    assert found == [0, 51, 102, 153, 204, 255]
    assert (page[:12] == 255).all()


def test_small_images_are_enlarged_by_whole_pixels() -> None:
    checks = (torch.arange(64).view(8, 8) + torch.arange(8)[:, None]) % 2 * 2.0 - 1
    page = np.asarray(sheet([Row("", [checks[None]])]).paint().convert("L"))[12:76, 12:76]
    assert np.array_equal(page, np.kron((checks.numpy() > 0) * 255, np.ones((8, 8))))


def test_heads_stand_over_their_columns_and_are_cut_to_their_width() -> None:
    cell = torch.zeros(1, 64, 64)
    page = sheet([Row("row", [cell, cell])], "Title", ["left", "a head that is much too long"])
    assert [text for *_, text in page.texts][:2] == ["Title", "left"]
    assert page.texts[2][2] in "a head that is much too long"
    assert [x for x, *_ in page.texts[1:3]] == [x for x, *_ in page.cells]
    assert page.texts[2][1] < page.cells[0][1]


def test_a_sheet_is_drawn_as_svg_too(tmp_path: Path) -> None:
    import xml.etree.ElementTree as ElementTree

    page = sheet([Row("<row> & more", torch.linspace(-1, 1, 8).view(2, 1, 2, 2))], "Title")
    save_picture(tmp_path / "page.svg", page)
    root = ElementTree.parse(tmp_path / "page.svg").getroot()
    assert (root.get("width"), root.get("height")) == tuple(map(str, page.paint().size))
    texts = [e.text for e in root if e.tag.endswith("text")]
    assert texts == ["Title", "<row> & more"]
    cells = [e for e in root if e.tag.endswith("image")]
    assert [(int(e.get("x", "")), int(e.get("width", ""))) for e in cells] == [(x, w) for x, _, w, _, _ in page.cells]
    data = base64.b64decode(cells[1].get("href", "").removeprefix("data:image/png;base64,"))
    assert np.asarray(Pillow.open(io.BytesIO(data))).tolist() == np.asarray(page.cells[1][4]).tolist()
    save_picture(tmp_path / "again.svg", page)
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "page.svg").read_bytes()


@pytest.mark.parametrize("kind", [".webp", ".png"])
def test_a_film_runs_forth_and_back(tmp_path: Path, kind: str) -> None:
    frames = torch.linspace(-1, 1, 5).view(5, 1, 1, 1).expand(5, 3, 8, 10)
    save_video(tmp_path / f"film{kind}", frames, frames_per_second=10)
    with Pillow.open(tmp_path / f"film{kind}") as film:
        assert (film.n_frames, film.size) == (8, (250, 200))  # type: ignore[attr-defined]
        seen = []
        for i in range(8):
            film.seek(i)
            seen.append(np.asarray(film.convert("L"))[0, 0].item())
    assert seen == [0, 64, 128, 191, 255, 191, 128, 64]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # imageio-ffmpeg's own pipes
def test_a_film_as_mp4_shows_the_same_frames(tmp_path: Path) -> None:
    frames = torch.linspace(-1, 1, 5).view(5, 1, 1, 1).expand(5, 3, 17, 33)
    save_video(tmp_path / "film.mp4", frames, frames_per_second=10)
    reader = read_frames(str(tmp_path / "film.mp4"))
    facts = next(reader)
    assert facts["fps"] == 10
    seen = [np.frombuffer(frame, np.uint8).mean() for frame in reader]
    assert seen == pytest.approx([0, 64, 128, 191, 255, 191, 128, 64], abs=12)


def test_other_films_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"\.webp, \.png, \.mp4; got film.gif"):
        save_video(tmp_path / "film.gif", torch.zeros(3, 1, 8, 8))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match=r"anamorph\[video\]"):
        save_video(tmp_path / "film.mp4", torch.zeros(3, 1, 8, 8))
    assert not list(tmp_path.iterdir())


def test_captions_empty_cells_and_transparency_have_their_place() -> None:
    clear = torch.full((4, 64, 64), -1.0)
    page = np.asarray(
        sheet([Row("first", [None, torch.full((1, 64, 64), -1.0)]), Row("second", clear[None])], "Title").paint().convert("L")
    )
    assert page.min() == 0
    plain = np.asarray(sheet([Row("", [None, torch.full((1, 64, 64), -1.0)])]).paint().convert("L"))
    assert (plain[12:76, 12:76] == 255).all()
    assert (plain[12:76, 80:144] == 0).all()
    assert page.shape[0] > plain.shape[0]
    assert page.shape[1] > plain.shape[1]


def test_pictures_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match="no image"):
        sheet([Row("", [None])])


def test_a_picture_that_would_be_too_large_is_shrunk() -> None:
    for rows in (rows_of(torch.zeros(400, 1, 64, 64) - 1, 400), [Row("wide", torch.zeros(16, 3, 8, 1100) - 1)]):
        page = sheet(rows).paint()
        assert 10_000 < max(page.size) <= LARGEST_SIDE
        assert 0 in np.asarray(page.convert("L"))


def test_grids_and_curves_are_written_whole_and_alike(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save_grid(tmp_path / name, torch.zeros(5, 3, 8, 8))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    save_curves(tmp_path / "c.png", {"critic": {"r1": ([1, 2, 3], [3.0, 2.0, 1.0])}, "one": {"point": ([1], [1.0])}})
    save_bars(tmp_path / "d.png", {"one": {"mean": 1.0, "variance": 0.5}, "two": {"mean": 0.0, "variance": 2.0}}, "Bars")
    save_matrices(tmp_path / "e.png", {"left": [[1.0, 0.2], [0.0, 0.5]], "right": [[0.0, 0.0], [1, 1]]}, ["a", "b"], "x", "y")
    for name in ("c.png", "d.png", "e.png"):
        with Pillow.open(tmp_path / name) as picture:
            assert np.asarray(picture.convert("RGB")).std() > 5
    for name in ("f.svg", "g.svg"):
        save_bars(tmp_path / name, {"one": {"mean": 1.0}})
    assert (tmp_path / "f.svg").read_bytes() == (tmp_path / "g.svg").read_bytes()
    assert len(list(tmp_path.iterdir())) == 7


def test_codebooks_are_drawn_with_what_they_stand_for(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, vectors = torch.randn(50, 4, generator=generator), torch.randn(6, 4, generator=generator)
    counts = torch.tensor([10, 0, 20, 5, 15, 0])
    pictures = []
    for number, shown in enumerate((counts, counts + 1)):  # with and without codes that nothing chooses
        path = tmp_path / f"{number}.png"
        save_codebooks(path, {"codes": CodebookView(outputs, vectors, shown)}, "some")
        with Pillow.open(path) as picture:
            pictures.append(np.asarray(picture.convert("RGB")).astype(int))
    red = [((p[..., 0] > 200) & (p[..., 1] < 70)).sum() for p in pictures]
    assert red[0] > 20
    assert red[1] == 0
    save_codebooks(tmp_path / "one.png", {"codes": CodebookView(torch.ones(3, 1), torch.zeros(2, 1), torch.tensor([3, 0]))})
    with Pillow.open(tmp_path / "one.png") as picture:
        assert picture.size[0] > 100


def test_ranked_values_fall(tmp_path: Path) -> None:
    save_ranked(tmp_path / "r.png", {"one": [0.1, 3.0, 1.0], "other": [2.0, 2.0]}, "two")
    with Pillow.open(tmp_path / "r.png") as picture:
        array = np.asarray(picture.convert("RGB")).astype(int)
    blue = (abs(array - (0x1F, 0x77, 0xB4)).sum(2) < 30).sum(0)  # how high the first panel's bars are, column by column
    heights = blue[blue > 0]
    assert heights[0] > 3 * heights[-1]
    assert (np.diff(heights.astype(int)) <= 3).all()
