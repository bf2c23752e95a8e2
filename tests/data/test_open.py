"""From names and paths to sources: folders, zips, arrays, IDX, splits, labels, sizes; and errors that name the remedy."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from anamorph.core.errors import UserError
from anamorph.core.signal import Image
from anamorph.data.dataset import Dataset
from anamorph.data.open import ReadOptions, open_source, split_of
from anamorph.data.single_files import read_images

GENERATOR = np.random.default_rng(0)


def picture(path: Path, height: int = 12, width: int = 12, mode: str = "RGB", value: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.full((height, width, 3), value) if value is not None else GENERATOR.integers(0, 256, (height, width, 3))
    Pillow.fromarray(array.astype(np.uint8)).convert(mode).save(path)


def folder(root: Path, n: int = 20) -> Path:
    for i in range(n):
        picture(root / f"{i:03}.png", value=i * 10)
    return root


def everything(source: Dataset) -> torch.Tensor:
    return source.in_order().take(0, source.size).signals


def test_a_folder_is_read_recursively_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name in ("b/2.png", "a/deep/1.jpg", "0.webp", ".hidden/x.png", "__MACOSX/y.png"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    source = open_source(f"{tmp_path}:all")
    assert (source.size, source.signal) == (3, Image(3, 12, 12))


def test_train_and_test_are_apart_and_together_all(tmp_path: Path) -> None:
    folder(tmp_path, 50)
    train, test, every = (everything(open_source(f"{tmp_path}:{split}")) for split in ("train", "test", "all"))
    assert 1 <= len(test) < len(train)
    values = [set(part[:, 0, 0, 0].tolist()) for part in (train, test, every)]
    assert not values[0] & values[1]
    assert values[0] | values[1] == values[2]
    assert len(open_source(str(tmp_path), split="test").rows) == len(test)


def test_train_and_test_folders_are_the_split(tmp_path: Path) -> None:
    for part, n in (("train", 6), ("val", 2)):
        for i in range(n):
            picture(tmp_path / part / ("cat", "dog")[i % 2] / f"{i}.png")
    source = open_source(f"{tmp_path}:test")
    assert source.size == 2
    assert source.labels[0].classes == ("cat", "dog")
    assert open_source(f"{tmp_path}:train").size == 6


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    for name, value in (("10", 200), ("9", 100)):
        for i in range(5):
            picture(tmp_path / name / f"{i}.png", value=value)
    source = open_source(f"{tmp_path}:all").in_order()
    batch = source.take(0, 10)
    assert source.labels[0].classes == ("9", "10")
    bright = batch.signals.mean((1, 2, 3)) > 0
    assert torch.equal(bright.long(), batch.labels["class"])


def test_classes_are_numbers_only_where_they_can_be_read_as_such(tmp_path: Path) -> None:
    for name in ("²", "--5", "10", "9"):
        picture(tmp_path / name / "0.png")
    assert open_source(f"{tmp_path}:all").labels[0].classes == ("--5", "10", "9", "²")


def test_dataset_json_and_csv_give_labels_by_path_or_name(tmp_path: Path) -> None:
    folder(tmp_path / "a", 4)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": [[f"a/{i:03}.png", i % 2 + 5] for i in range(4)]}))
    source = open_source(f"{tmp_path}:all").in_order()
    assert source.labels[0].classes == ("5", "6")
    assert source.take(0, 4).labels["class"].tolist() == [0, 1, 0, 1]
    (tmp_path / "dataset.json").unlink()
    (tmp_path / "labels.csv").write_text("file,kind,side\n" + "".join(f"{i:03}.png,{'xy'[i // 2]},{i}\n" for i in range(4)))
    source = open_source(f"{tmp_path}:all").in_order()
    assert [(label.name, label.classes) for label in source.labels] == [("kind", ("x", "y")), ("side", ("0", "1", "2", "3"))]
    assert source.take(0, 4).labels["kind"].tolist() == [0, 0, 1, 1]
    assert open_source(f"{tmp_path}:all").with_labels(["side"]).take(0, 1).labels.keys() == {"side"}
    with pytest.raises(UserError, match="no label 'knid': did you mean 'kind'"):
        source.with_labels(["knid"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("labels.csv", "file,kind\n000.png,a\n", "no label for 3 of 4 files, for example"),
        ("labels.csv", "file,kind\n000.png\n", "wants a header"),
        ("labels.csv", "", "empty"),
        ("dataset.json", "[1", "dataset.json is not"),
        ("dataset.json", '{"labels": [["a", "b"]]}', "dataset.json is not"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    folder(tmp_path, 4)
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        open_source(f"{tmp_path}:all")


def test_a_zip_is_a_folder(tmp_path: Path) -> None:
    folder(tmp_path / "f", 6)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for path in sorted((tmp_path / "f").iterdir()):
            archive.write(path, f"f/{path.name}")
        archive.writestr("__MACOSX/f/._000.png", b"rubbish")
    a, b = open_source(f"{tmp_path / 'f'}:all"), open_source(f"{tmp_path / 'x.zip'}:all")
    assert torch.equal(everything(a), everything(b))


def packed(root: Path, path: Path) -> Path:
    """A zip of a folder, as most programs make it: with the folder's own name before each file's."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(root.parent))
        archive.writestr(f"__MACOSX/{root.name}/._0.png", b"rubbish")
        archive.writestr(".hidden/0.png", b"rubbish")
    return path


def test_a_zip_of_a_folder_has_its_labels_and_parts(tmp_path: Path) -> None:
    root = tmp_path / "kinds"
    for i in range(4):
        picture(root / ("cat", "dog")[i % 2] / f"{i}.png")
    picture(tmp_path / "parts" / "train" / "a" / "4.png")
    picture(tmp_path / "parts" / "val" / "b" / "5.png")
    assert open_source(f"{packed(root, tmp_path / 'x.zip')}:all").labels[0].classes == ("cat", "dog")
    parts = open_source(f"{packed(tmp_path / 'parts', tmp_path / 'y.zip')}:test")
    assert (parts.size, parts.labels[0].classes) == (1, ("a", "b"))
    (root / "labels.csv").write_text("file,side\n" + "".join(f"{i}.png,{i // 2}\n" for i in range(4)))
    assert open_source(f"{packed(root, tmp_path / 'z.zip')}:all").labels[0].name == "side"
    (root / "dataset.json").write_text(json.dumps({"labels": [[f"{('cat', 'dog')[i % 2]}/{i}.png", 7] for i in range(4)]}))
    assert open_source(f"{packed(root, tmp_path / 'w.zip')}:all").labels[0].classes == ("7",)


def _garble(path: Path, name: str, change: str) -> None:
    """Damage one member of a zip: its packed bytes, its checksum, or how it says that it is packed."""
    whole = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info, directory = archive.getinfo(name), archive.start_dir
    start = info.header_offset + 30 + len(info.orig_filename)
    entry = whole.index(info.orig_filename.encode(), directory) - 46
    if change == "deflate":
        whole[start : start + info.compress_size] = b"\xff" * info.compress_size
    elif change == "checksum":
        whole[entry + 16] ^= 0xFF
    else:
        whole[entry + 10] = whole[info.header_offset + 8] = 97
    path.write_bytes(whole)


@pytest.mark.parametrize("change", ["deflate", "checksum", "method"])
def test_a_bad_member_of_a_zip_is_skipped_and_told(tmp_path: Path, change: str) -> None:
    path = packed(folder(tmp_path / "f", 6), tmp_path / "x.zip")
    _garble(path, "f/003.png", change)
    source = open_source(f"{path}:all")
    assert source.size == 5
    assert any("1 of 6 images were left out, for example 003.png: f/003.png cannot be unpacked" in n for n in source.notes)
    (tmp_path / "f" / "labels.csv").write_text("file,kind\n")
    path = packed(tmp_path / "f", tmp_path / "y.zip")
    _garble(path, "f/labels.csv", change)
    with pytest.raises(UserError, match=r"cannot read the labels in .*y\.zip: f/labels\.csv cannot be unpacked"):
        open_source(str(path))


def test_a_zip_of_only_bad_members_is_refused(tmp_path: Path) -> None:
    path = packed(folder(tmp_path / "f", 1), tmp_path / "x.zip")
    _garble(path, "f/000.png", "deflate")
    with pytest.raises(UserError, match=r"none of 1 images can be read; 000\.png: f/000\.png cannot be unpacked"):
        open_source(str(path))


def test_arrays_and_idx_files_win_over_loose_images_and_this_is_told(tmp_path: Path) -> None:
    folder(tmp_path, 3)
    np.savez(tmp_path / "x.npz", images=np.zeros((7, 5, 4), np.uint8))
    source = open_source(f"{tmp_path}:all")
    assert (source.size, source.signal) == (7, Image(1, 5, 4))
    assert "read from x.npz" in source.notes
    np.save(tmp_path / "y.npy", np.zeros((7, 5, 4), np.uint8))
    with pytest.raises(UserError, match=r"several arrays .*x\.npz, y\.npy"):
        open_source(str(tmp_path))


def test_mixed_sizes_are_cut_square_and_told(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 40, 90)
    picture(tmp_path / "b.png", 300, 50, "L")
    source = open_source(f"{tmp_path}:all")
    assert source.signal == Image(3, 32, 32)
    assert any("of 2 sizes from 40x50 up: cut square and reduced to 32x32" in note for note in source.notes)
    assert "2 images were resized" in source.notes
    chosen = open_source(f"{tmp_path}:all", ReadOptions((16, 24), 1))
    assert chosen.signal == Image(1, 16, 24)


def test_enlarging_is_refused_unless_asked_for(tmp_path: Path) -> None:
    folder(tmp_path, 3)
    with pytest.raises(UserError, match=r"are 12x12, smaller than the 64x64 asked for.*--upscale"):
        open_source(str(tmp_path), ReadOptions((64, 64)))
    assert open_source(str(tmp_path), ReadOptions((64, 64), upscale=True)).signal == Image(3, 64, 64)


def test_a_small_image_among_large_ones_is_named(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / f"{i}.png", 80, 90)
    picture(tmp_path / "icon.png", 1, 1)
    picture(tmp_path / "low.png", 40, 90)
    for _ in range(2):  # surveyed, and remembered
        with pytest.raises(UserError, match=r"2 of 6 images are smaller than the 64x64 asked for, down to icon\.png with 1x1"):
            open_source(str(tmp_path), ReadOptions((64, 64)))
    assert open_source(str(tmp_path), ReadOptions((64, 64), upscale=True)).signal == Image(3, 64, 64)


def test_bad_images_among_good_ones_are_skipped_and_told(tmp_path: Path) -> None:
    folder(tmp_path, 30)
    good = (tmp_path / "004.png").read_bytes()
    (tmp_path / "004.png").write_bytes(good[: len(good) // 2])
    (tmp_path / "007.png").write_bytes(b"rubbish")
    Pillow.new("1", (30_000, 30_000)).save(tmp_path / "bomb.png")
    source = open_source(f"{tmp_path}:all")
    assert source.size == 28
    assert {round(float(v) * 127.5 + 127.5) for v in everything(source)[:, 0, 0, 0]} == {i * 10 % 256 for i in range(30)} - {
        40,
        70,
    }
    (text,) = [note for note in source.notes if "left out" in note]
    assert text.startswith("3 of 31 images were left out, for example 004.png: ")


def test_too_many_bad_images_stop_the_run(tmp_path: Path) -> None:
    folder(tmp_path, 20)
    for i in range(12):
        (tmp_path / f"{i:03}.png").write_bytes(b"rubbish")
    with pytest.raises(UserError, match="too many of 20 images cannot be used .* repair or remove"):
        open_source(str(tmp_path))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no such file or folder"),
        (lambda p: p.mkdir(), "no images in"),
        (lambda p: (p.mkdir(), (p / "x.png").write_bytes(b"rubbish")), "none of 1 images can be read"),
        (lambda p: (p.mkdir(), (p / "x.txt").write_text("hello")), "no images in"),
    ],
)
def test_folders_without_images_are_named(tmp_path: Path, make: object, message: str) -> None:
    make(tmp_path / "data")  # type: ignore[operator]
    with pytest.raises(UserError, match=message):
        open_source(str(tmp_path / "data"))


def test_files_that_are_no_source_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"rubbish")
    (tmp_path / "x.txt").write_text("hello")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    for name, message in (
        ("x.zip", "damaged or no zip"),
        ("x.txt", "no dataset of images or sounds"),
        ("empty.zip", "no images in"),
    ):
        with pytest.raises(UserError, match=message):
            open_source(str(tmp_path / name))


def test_a_folder_that_is_called_as_a_set_does_not_stand_in_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a run would depend on where it is taken up."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    Pillow.new("RGB", (16, 16)).save(tmp_path / "digits" / "one.png")
    assert open_source("digits:all").size == 1797
    assert open_source("./digits:all").size == 1


def test_unknown_names_are_met_with_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown: did you mean 'digits'"):
        open_source("digit")
    with pytest.raises(UserError, match="did you mean 'mnist'"):
        open_source("minst")


def test_specs_carry_a_split() -> None:
    assert split_of("digits:test") == ("digits", "test")
    assert split_of("C:/images") == ("C:/images", None)
    assert split_of("a:b:all") == ("a:b", "all")


def test_a_batch_is_a_function_of_its_position() -> None:
    source = open_source("digits", seed=3)
    whole = source.take(0, 4000)
    part = source.take(1500, 300)
    assert torch.equal(part.signals, whole.signals[1500:1800])
    assert torch.equal(part.labels["class"], whole.labels["class"][1500:1800])
    assert not torch.equal(open_source("digits", seed=4).take(0, 50).signals, whole.signals[:50])


def test_mirroring_flips_half_of_the_images_and_is_off_by_default() -> None:
    plain, mirrored = open_source("digits"), open_source("digits", mirror=True)
    a, b = plain.take(0, 400).signals, mirrored.take(0, 400).signals
    flipped = (a != b).flatten(1).any(1)
    assert 150 < int(flipped.sum()) < 250
    assert torch.equal(b[flipped], a[flipped].flip(3))
    assert plain.fingerprint != mirrored.fingerprint
    assert torch.equal(mirrored.in_order().take(0, 9).signals, plain.in_order().take(0, 9).signals)


def test_levels_are_means_of_boxes() -> None:
    source = open_source("digits")
    full = source.take(0, 5).signals
    torch.testing.assert_close(source.take(0, 5, level=2).signals, torch.nn.functional.avg_pool2d(full, 4))
    with pytest.raises(UserError, match="divisible by 16"):
        source.take(0, 5, level=4)


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    source = open_source("digits:all").in_order()
    batch = source.take(0, source.size)
    wanted = torch.from_numpy(load_digits().images / 8 - 1).float()
    torch.testing.assert_close(batch.signals[:, 0], wanted, atol=1 / 255 + 1e-6, rtol=0)
    assert batch.labels["class"].tolist() == load_digits().target.tolist()
    assert open_source("digits", ReadOptions((16, 16), upscale=True)).signal == Image(1, 16, 16)


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    folder(tmp_path / "real", 3)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    assert open_source(f"{tmp_path / 'data'}:all").size == 3


def test_single_files_are_fitted_to_a_model_and_this_is_told(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 20, 30)
    images, notes = read_images([tmp_path / "a.png"], Image(1, 8, 8))
    assert images.shape == (1, 1, 8, 8)
    assert "cropped around the centre" in notes[0]
    for name, message in (("none.png", "cannot read .*none.png"), ("bad.png", "not readable as an image")):
        if name == "bad.png":
            (tmp_path / name).write_bytes(b"rubbish")
        with pytest.raises(UserError, match=message):
            read_images([tmp_path / name], Image(1, 8, 8))
