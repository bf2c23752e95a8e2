"""Datasets from memory: arrays, tensors, lists of files and of PIL images, PyTorch datasets; and what each of them refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, TensorDataset

from anamorph.core.errors import UserError
from anamorph.core.signal import Image
from anamorph.data.dataset import Dataset
from anamorph.data.open import ReadOptions, open_source

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
PIXELS[0, 0, 0], PIXELS[0, 0, 1] = 0, 255
EXPECTED = torch.from_numpy(PIXELS.transpose(0, 3, 1, 2).astype(np.float32) * np.float32(2 / 255) - 1)


def values(dataset: Dataset) -> torch.Tensor:
    return dataset.in_order().take(0, dataset.size).signals


class Pairs(TorchDataset[Any]):
    """A map-style dataset of given items, with names of classes as torchvision's have them."""

    classes = ("cat", "dog")

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(())


@pytest.mark.parametrize(
    "data",
    [
        PIXELS,
        PIXELS.transpose(0, 3, 1, 2),
        PIXELS.astype(np.float64) / 255,
        PIXELS.astype(np.float32) / 127.5 - 1,
        torch.from_numpy(PIXELS),
        EXPECTED,
        EXPECTED.clone().requires_grad_(),
        [Pillow.fromarray(pixels) for pixels in PIXELS],
        TensorDataset(EXPECTED),
        Pairs(list(EXPECTED)),
        Pairs([(Pillow.fromarray(pixels), i % 2) for i, pixels in enumerate(PIXELS)]),
    ],
    ids=["bytes", "channels first", "0..1", "-1..1", "byte tensor", "tensor", "leaf", "PIL", "TensorDataset", "items", "pairs"],
)
def test_every_kind_of_data_gives_the_same_images(data: Any) -> None:
    dataset = open_source(data, split="all")
    assert dataset.signal == Image(3, 8, 8)
    assert torch.equal(values(dataset), EXPECTED)


def test_grey_arrays_need_no_channel_axis() -> None:
    assert open_source(PIXELS[..., 0]).signal == Image(1, 8, 8)
    assert open_source(torch.from_numpy(PIXELS[..., 0])).signal == Image(1, 8, 8)


def test_half_precision_tensors_are_read() -> None:
    assert torch.allclose(values(open_source(EXPECTED.bfloat16(), split="all")), EXPECTED, atol=0.01)


def test_a_tenth_is_held_out_and_the_fingerprint_is_of_the_content() -> None:
    train, test = open_source(PIXELS), open_source(PIXELS, split="test")
    assert train.size + test.size == 20
    assert train.fingerprint == open_source(torch.from_numpy(PIXELS)).fingerprint
    assert train.fingerprint != open_source(255 - PIXELS).fingerprint


def test_an_array_that_is_changed_later_does_not_change_the_dataset() -> None:
    array = PIXELS.transpose(0, 3, 1, 2).copy()
    dataset = open_source(array, split="all")
    array[:] = 0
    assert torch.equal(values(dataset), EXPECTED)


def test_a_path_is_opened_as_its_text_is(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PIXELS)
    assert open_source(tmp_path / "a.npy").fingerprint == open_source(str(tmp_path / "a.npy")).fingerprint
    with pytest.raises(UserError, match="no such file or folder: nowhere$"):
        open_source(Path("nowhere"))


def files(root: Path) -> list[Path]:
    paths = []
    for i, pixels in enumerate(PIXELS):
        paths.append(root / ("cat", "dog")[i % 2] / f"{99 - i}.png")
        paths[-1].parent.mkdir(exist_ok=True)
        Pillow.fromarray(pixels).save(paths[-1])
    return paths


def test_listed_files_keep_their_order_and_their_folders_are_classes(tmp_path: Path) -> None:
    paths = files(tmp_path)
    dataset = open_source(paths, split="all").in_order()
    assert torch.equal(values(dataset), EXPECTED)
    assert dataset.labels[0].classes == ("cat", "dog")
    assert dataset.take(0, 4).labels["class"].tolist() == [0, 1, 0, 1]
    assert open_source([str(path) for path in paths[::2]], split="all").labels == ()


def test_listed_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    paths = files(tmp_path)
    with pytest.raises(UserError, match="no such file: .*lost.png"):
        open_source([*paths, tmp_path / "lost.png"])
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(UserError, match="notes.txt is no image or sound file"):
        open_source([*paths, tmp_path / "notes.txt"])


def test_pictures_of_several_sizes_are_sized_as_those_of_folders_are() -> None:
    pictures = [Pillow.new("L", (20, 12), 90), Pillow.new("L", (10, 16), 90)]
    assert open_source(pictures, split="all").signal == Image(1, 8, 8)
    assert "cut square and reduced to 8x8" in open_source(pictures, split="all").notes[0]
    assert open_source(pictures, ReadOptions(size=(10, 10)), split="all").signal == Image(1, 10, 10)
    with pytest.raises(UserError, match="1 of 2 images are smaller than the 11x11 asked for, down to image 1"):
        open_source(pictures, ReadOptions(size=(11, 11)))


def test_images_are_brought_to_the_size_of_the_options() -> None:
    dataset = open_source(PIXELS, ReadOptions(size=(4, 4), channels=1))
    assert dataset.signal == Image(1, 4, 4)
    assert dataset.notes[-1] == "brought from 8x8 with 3 channels to 4x4 with 1 channel"
    with pytest.raises(UserError, match="the images are 8x8, smaller than the 16x16 asked for"):
        open_source(PIXELS, ReadOptions(size=(16, 16)))


@pytest.mark.parametrize("as_class", [int, np.int64, torch.tensor], ids=["int", "numpy", "tensor"])
def test_classes_of_a_torch_dataset_become_a_label(as_class: Callable[[int], Any]) -> None:
    dataset = open_source(Pairs([(x, as_class(i % 2)) for i, x in enumerate(EXPECTED)]), split="all", seed=None)
    assert (dataset.labels[0].name, dataset.labels[0].classes) == ("class", ("cat", "dog"))
    assert dataset.take(0, 4).labels["class"].tolist() == [0, 1, 0, 1]
    assert dataset.name == "Pairs"


NAN = np.full((2, 4, 4), np.nan, np.float32)
WORDS: NDArray[Any] = np.full((2, 4, 4), "x")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (PIXELS[0, 0], r"array is \[8, 3\]: "),
        (np.zeros((2, 8, 8, 5), np.uint8), r"array is \[2, 8, 8, 5\]: "),
        (torch.zeros(2, 1, 3, 8, 8), r"tensor is \[2, 1, 3, 8, 8\]: "),
        (PIXELS.astype(np.float32) * 3, "array .float32.: values run from 0 to 765: "),
        (EXPECTED * 3, "tensor .float32.: values run from -3 to 3: "),
        (NAN, "holds NaN or infinite values"),
        (WORDS, "array: dtype <U1"),
        (PIXELS[:0], "array is empty"),
        ([], "the list is empty"),
        ([PIXELS[0], PIXELS[1]], "a list of ndarray cannot be opened: .*np.stack"),
        ([Pillow.new("L", (4, 4)), "a.png"], "a list of Image, str cannot be opened"),
        (3, "cannot open int: expected a name or path"),
        ({"a": 1}, "cannot open dict: expected a name or path"),
        (Endless(), "Endless has no length"),
        (Pairs([]), "Pairs is empty"),
        (Pairs([(EXPECTED[0], 1), EXPECTED[1]]), "has a class for 1 of its 2 images"),
        (Pairs([EXPECTED[0], EXPECTED[1, :, :4]]), r"several shapes, such as \[3, 4, 8\] and \[3, 8, 8\]: resize"),
        (Pairs([EXPECTED[0], Pillow.new("RGB", (8, 8))]), "the images of Pairs are Image, Tensor: "),
        (Pairs([(EXPECTED[0], "cat")]), "item 0 of Pairs is no image, nor"),
        (Pairs([(EXPECTED[0], 1, 2)]), "item 0 of Pairs is no image, nor"),
        (Pairs(["cat"]), "the images of Pairs are str: "),
    ],
)
def test_data_that_are_no_images_are_refused(data: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_source(data)


def test_options_that_do_not_apply_to_memory_are_refused() -> None:
    with pytest.raises(UserError, match="array has no files whose names could be read"):
        open_source(PIXELS, ReadOptions(name_pattern="{digit}_*"))
    with pytest.raises(UserError, match="a rate, a window and a hop are for sounds"):
        open_source(PIXELS, ReadOptions(sample_rate=8000))
    with pytest.raises(UserError, match="no split 'tset': did you mean 'test'"):
        open_source(PIXELS, split="tset")
