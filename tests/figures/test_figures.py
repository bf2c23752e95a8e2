from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from anamorph.core.errors import UserError
from anamorph.figures.curves import save_curves
from anamorph.figures.grid import LARGEST_SIDE, Row, as_picture, rows_of, save_grid, sheet


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
    page = np.asarray(sheet(rows_of(values, 3)).convert("L")).astype(int)
    found = [page[12 + 32 + 68 * r, 12 + 32 + 68 * c] for r in range(2) for c in range(3)]
    assert found == [0, 51, 102, 153, 204, 255]
    assert (page[:12] == 255).all()


def test_small_images_are_enlarged_by_whole_pixels() -> None:
    checks = (torch.arange(64).view(8, 8) + torch.arange(8)[:, None]) % 2 * 2.0 - 1
    page = np.asarray(sheet([Row("", [checks[None]])]).convert("L"))[12:76, 12:76]
    assert np.array_equal(page, np.kron((checks.numpy() > 0) * 255, np.ones((8, 8))))


def test_captions_empty_cells_and_transparency_have_their_place() -> None:
    clear = torch.full((4, 64, 64), -1.0)
    page = np.asarray(
        sheet([Row("first", [None, torch.full((1, 64, 64), -1.0)]), Row("second", clear[None])], "Title").convert("L")
    )
    assert page.min() == 0
    plain = np.asarray(sheet([Row("", [None, torch.full((1, 64, 64), -1.0)])]).convert("L"))
    assert (plain[12:76, 12:76] == 255).all()
    assert (plain[12:76, 80:144] == 0).all()
    assert page.shape[0] > plain.shape[0]
    assert page.shape[1] > plain.shape[1]


def test_pictures_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match="no image"):
        sheet([Row("", [None])])


def test_a_picture_that_would_be_too_large_is_shrunk() -> None:
    for rows in (rows_of(torch.zeros(400, 1, 64, 64) - 1, 400), [Row("wide", torch.zeros(16, 3, 8, 1100) - 1)]):
        page = sheet(rows)
        assert 10_000 < max(page.size) <= LARGEST_SIDE
        assert 0 in np.asarray(page.convert("L"))


def test_grids_and_curves_are_written_whole_and_alike(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save_grid(tmp_path / name, torch.zeros(5, 3, 8, 8))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    save_curves(tmp_path / "c.png", {"critic": {"r1": ([1, 2, 3], [3.0, 2.0, 1.0])}, "one": {"point": ([1], [1.0])}})
    with Pillow.open(tmp_path / "c.png") as picture:
        assert np.asarray(picture.convert("RGB")).std() > 5
    assert len(list(tmp_path.iterdir())) == 3
