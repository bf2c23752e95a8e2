"""Datasets as sequences of examples, as notebooks and data loaders read them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from anamorph.core.signal import Image, Label
from anamorph.core.space import Space
from anamorph.data.codes import CodeCounts, CodeDataset
from anamorph.data.examples import Example
from anamorph.data.images import Images, InMemory
from anamorph.data.open import open_source
from sounds import source_of


def dataset(n: int = 600, seed: int | None = 0) -> Images:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 3, 4, 4), dtype=np.uint8)
    labels = (Label("body", ("a", "b")), Label("fur", ("c", "d", "e")))
    return Images("photos", InMemory(pixels), np.arange(n), labels, {"body": np.arange(n) % 2, "fur": np.arange(n) % 3}, seed)


@pytest.mark.parametrize("seed", [0, None])
def test_an_example_is_what_a_batch_holds_at_its_position(seed: int | None) -> None:
    source = dataset(seed=seed)
    batch = source.take(7, 1)
    example = source[7]
    assert isinstance(example, Example)
    assert isinstance(example.signal, torch.Tensor)
    assert torch.equal(example.signal, batch.signals[0])
    assert example.labels == {name: int(value) for name, value in batch.labels.items()}
    assert all(type(value) is int for value in example.labels.values())


def test_length_negative_and_numpy_indices() -> None:
    source = dataset()
    assert len(source) == source.size == 600
    for index, same in ((-1, 599), (-600, 0), (np.int64(3), 3)):
        assert torch.equal(torch.as_tensor(source[index].signal), torch.as_tensor(source[same].signal))


@pytest.mark.parametrize("index", [600, -601])
def test_an_index_out_of_range_is_refused(index: int) -> None:
    with pytest.raises(IndexError, match=f"index {index} is out of range for 600 examples"):
        dataset()[index]


@pytest.mark.parametrize("index", [slice(0, 3), "x", 1.0, [1, 2]])
def test_slices_and_others_are_refused(index: object) -> None:
    with pytest.raises(TypeError, match=r"one whole number, got a .*: use take\(start, count\)"):
        dataset()[index]  # type: ignore[index]


def test_iteration_reads_every_example_once_in_order() -> None:
    source = dataset()
    examples = list(source)
    assert len(examples) == 600
    assert torch.equal(torch.stack([torch.as_tensor(e.signal) for e in examples]), source.take(0, 600).signals)
    assert [e.labels["fur"] for e in examples] == source.take(0, 600).labels["fur"].tolist()


def test_a_data_loader_reads_a_dataset() -> None:
    source = dataset()
    batch = next(iter(DataLoader(source, batch_size=8)))  # type: ignore[arg-type]
    assert torch.equal(batch.signal, source.take(0, 8).signals)
    assert torch.equal(batch.labels["body"], source.take(0, 8).labels["body"])


def test_a_dataset_describes_itself_in_one_line() -> None:
    assert repr(dataset(1024)) == "Dataset('photos', 1,024 images of 4x4 with 3 channels, labels: body, fur)"
    assert repr(dataset().with_labels([])) == "Dataset('photos', 600 images of 4x4 with 3 channels)"
    assert repr(open_source("digits:all")) == "Dataset('digits', 1,797 images of 8x8 with 1 channel, labels: class)"


def test_sounds_and_codes_are_sequences_too() -> None:
    sounds = source_of(6, 64, 8000)
    assert isinstance(sounds[0].signal, torch.Tensor)
    assert sounds[0].signal.shape == sounds.signal.shape
    space = Space("z", (2,), num_codes=5)
    ids = torch.arange(8).view(4, 2) % 5
    codes = CodeDataset(Image(1, 4, 4), {"z": ids}, (), {}, "f", (CodeCounts.of(space, ids),), "photos", None)
    assert repr(codes) == "CodeDataset('photos', 4 codes of z)"
    example = codes[-1].signal
    assert isinstance(example, dict)
    assert example["z"].tolist() == [1, 2]
