from __future__ import annotations

import gzip
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anamorph.core.errors import UserError
from anamorph.data.arrays import read_table
from anamorph.data.idx import find_idx, read_idx, read_idx_folder

X = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3)).astype(np.uint8)


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "x.npz", **arrays)
    return folder / "x.npz"


def test_train_and_test_arrays_with_class_names(tmp_path: Path) -> None:
    table = read_table(
        npz(tmp_path, x_train=X[:4], y_train=[0, 1, 2, 1], x_test=X[4:], y_test=[2, 0], class_names=["a", "b", "c"])
    )
    assert table.test == 4
    assert np.array_equal(table.pixels, X.transpose(0, 3, 1, 2))
    assert table.labels[0].classes == ("a", "b", "c")
    assert table.values["class"].tolist() == [0, 1, 2, 1, 2, 0]


@pytest.mark.parametrize("key", ["images", "x", "data", "arr_0", "anything"])
def test_a_plain_array_of_images(tmp_path: Path, key: str) -> None:
    table = read_table(npz(tmp_path, **{key: X, "kind": np.array([3, 3, 5, 5, 3, 5]), "id": np.array(list("abcdef"))}))
    assert table.pixels.shape == (6, 3, 5, 4)
    assert [(label.name, label.classes) for label in table.labels] == [("kind", ("3", "5"))]
    assert table.values["kind"].tolist() == [0, 0, 1, 1, 0, 1]


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((6, 5, 4), (1, 5, 4)),
        ((6, 5, 4, 1), (1, 5, 4)),
        ((6, 3, 5, 7), (3, 5, 7)),
        ((6, 1, 9, 4), (1, 9, 4)),
        ((6, 3, 3, 3), (3, 3, 3)),
    ],
)
def test_layouts(tmp_path: Path, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    assert read_table(npz(tmp_path, x=np.zeros(shape, np.uint8))).pixels.shape[1:] == wanted


@pytest.mark.parametrize(
    ("array", "note"),
    [
        (X / 255.0, "floats in [0, 1]"),
        ((X / 127.5 - 1).astype(np.float32), "floats in [-1, 1]"),
        (X.astype(np.float32), "floats in [0, 255]"),
        (X.astype(np.int64), None),
        (X > 100, "black and white"),
        ((X > 100).astype(np.uint8), "black and white (0 and 1"),
        ((X > 100).astype(np.int64), "black and white (0 and 1"),
    ],
)
def test_other_types_are_rounded_to_bytes_and_told(tmp_path: Path, array: np.ndarray, note: str | None) -> None:
    table = read_table(npz(tmp_path, x=array))
    wanted = (X > 100) * 255 if note and "black" in note else X
    assert np.abs(table.pixels.transpose(0, 2, 3, 1).astype(int) - wanted).max() <= 1
    assert (note in table.notes[0]) if note else not table.notes


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.zeros(3)}, r"no array of images.*y \[3\]"),
        ({"x": np.array([{}, {}], dtype=object)}, "never unpickled"),
        ({"x": np.full((2, 4, 4), np.nan)}, "NaN"),
        ({"x": np.full((2, 4, 4), 1e9)}, "wanted floats in"),
        ({"x": np.full((2, 4, 4), 300)}, "scale it to 0..255"),
        ({"x": np.zeros((2, 4, 4), complex)}, "dtype complex"),
        ({"x": np.zeros((2, 5, 4, 2), np.uint8)}, "1, 3 or 4 channels"),
        ({"x": np.zeros((0, 4, 4), np.uint8)}, "is empty"),
        ({"x_train": X, "y_train": [1, 2]}, "6 images but 2 labels"),
        ({"x_train": X, "x_test": X[:, :3]}, "must agree"),
        ({"x_train": X, "x_test": X / 255.0}, "float64 and uint8, so that one value may mean two things"),
    ],
)
def test_what_cannot_be_images_is_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_table(npz(tmp_path, **arrays))


def test_a_value_means_the_same_in_train_and_test(tmp_path: Path) -> None:
    train = np.linspace(-1, 1, 120, dtype=np.float32).reshape(6, 5, 4)
    table = read_table(npz(tmp_path, x_train=train, x_test=np.abs(train)))
    assert table.test == 6
    assert np.array_equal(table.pixels[:, 0], np.round(np.concatenate([train, np.abs(train)]) * 127.5 + 127.5))
    table = read_table(npz(tmp_path, x_train=X[..., 0], x_test=X[..., 0] % 2))  # as dark as they are
    assert table.pixels[6:].max() == 1


def bent(path: Path, position: int, data: bytes) -> None:
    """Overwrite a few bytes of a file."""
    whole = bytearray(path.read_bytes())
    whole[position : position + len(data)] = data
    path.write_bytes(whole)


def claiming(shape: str) -> bytes:
    """An .npy of 100 bytes that claims another shape."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(100)


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
@pytest.mark.parametrize("shape", ["(60000, 100000, 1000)", "(300, 1000, 1000)", "(-3, 4, 4)"])
def test_arrays_that_claim_more_than_is_there_are_refused_before_room_is_made(tmp_path: Path, name: str, shape: str) -> None:
    path = tmp_path / name
    if name == "x.npy":
        path.write_bytes(claiming(shape))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", claiming(shape))
    tracemalloc.start()
    with pytest.raises(UserError, match=r"cannot read .*it claims \["):
        read_table(path)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "save", [np.savez, np.savez_compressed, lambda path, images: np.save(path.with_suffix(".npy"), images)]
)
def test_whole_arrays_come_back_in_any_order_of_bytes(tmp_path: Path, order: Any, save: Any) -> None:
    save(tmp_path / "x.npz", images=np.asarray(X.astype(">u2"), order=order))
    (path,) = tmp_path.iterdir()
    assert np.array_equal(read_table(path).pixels, X.transpose(0, 3, 1, 2))


def test_damaged_members_of_an_npz_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=X)
    bent(path, 60, b"\xff" * 40)
    with pytest.raises(UserError, match=r"cannot read .*x\.npz: its member x\.npy"):
        read_table(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "no array")
    with pytest.raises(UserError, match=r"its member notes\.txt is no array"):
        read_table(path)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = npz(tmp_path, x=X)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"cannot read .*x\.npz"):
        read_table(path)
    (tmp_path / "y.npy").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"cannot read .*y\.npy"):
        read_table(tmp_path / "y.npy")
    (tmp_path / "y.npy").write_bytes(claiming("((6, 5, 4)"))
    with pytest.raises(UserError, match=r"cannot read .*y\.npy: its header is damaged"):
        read_table(tmp_path / "y.npy")


def idx(array: np.ndarray, claimed: tuple[int, ...] | None = None, kind: int = 8) -> bytes:
    shape = claimed or array.shape
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape) + array.tobytes()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_read_as_they_are(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"train-images-idx3-ubyte{suffix}"
    data = idx(X[..., 0])
    path.write_bytes(gzip.compress(data) if suffix else data)
    assert np.array_equal(read_idx(path), X[..., 0])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (idx(X[..., 0])[:-3], "holds only"),
        (idx(X[..., 0]) + b"x", "holds more"),
        (idx(X[..., 0], claimed=(7, 5, 4)), "claims"),
        (idx(X[..., 0], claimed=(2**31, 2**31, 2**31)), "over the limit"),
        (idx(X[..., 0], kind=13), "no IDX file of unsigned bytes"),
        (idx(X[..., 0])[:9], "within its header"),
        (b"", "begins with nothing"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_that_lie_are_refused(tmp_path: Path, data: bytes, message: str, packed: bool) -> None:
    path = tmp_path / ("x-ubyte.gz" if packed else "x-ubyte")
    path.write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(UserError, match=message):
        read_idx(path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_an_idx_header_makes_no_room_for_what_is_not_there(tmp_path: Path, suffix: str) -> None:
    path, data = tmp_path / f"x-ubyte{suffix}", idx(X[..., 0], claimed=(3000, 1000, 1000))
    path.write_bytes(gzip.compress(data) if suffix else data)
    tracemalloc.start()
    with pytest.raises(UserError, match="holds only 120"):
        read_idx(path)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_a_gzip_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x-ubyte.gz").write_bytes(gzip.compress(idx(X[..., 0]))[:-20])
    with pytest.raises(UserError, match="damaged or cut short"):
        read_idx(tmp_path / "x-ubyte.gz")


def test_a_folder_of_idx_files_has_its_own_split(tmp_path: Path) -> None:
    for part, rows in (("train", slice(0, 4)), ("t10k", slice(4, 6))):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(X[rows, ..., 0]))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(6, dtype=np.uint8)[rows] % 3))
    table = read_idx_folder(tmp_path, find_idx(tmp_path))
    assert table.test == 4
    assert np.array_equal(table.pixels[:, 0], X[..., 0])
    assert table.values["class"].tolist() == [0, 1, 2, 0, 1, 2]
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(3, np.uint8)))
    with pytest.raises(UserError, match=r"\[4, 2\] images but \[3, 2\] labels"):
        read_idx_folder(tmp_path, find_idx(tmp_path))


def test_idx_files_with_their_sets_name_keep_its_split(tmp_path: Path) -> None:
    for part, rows in (("train", slice(2, 6)), ("test", slice(0, 2))):
        (tmp_path / f"emnist-letters-{part}-images-idx3-ubyte").write_bytes(idx(X[rows, ..., 0]))
        (tmp_path / f"emnist-letters-{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(6, dtype=np.uint8)[rows]))
    table = read_idx_folder(tmp_path, find_idx(tmp_path))
    assert table.test == 4
    assert table.values["class"].tolist() == [2, 3, 4, 5, 0, 1]
    (tmp_path / "emnist-digits-test-images-idx3-ubyte").write_bytes(idx(X[..., 0]))
    with pytest.raises(UserError, match="several sets"):
        read_idx_folder(tmp_path, find_idx(tmp_path))
