"""Codes of a dataset, encoded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from anamorph.core.model import Encodes, Labels, Noise
from anamorph.core.signal import Image, Label
from anamorph.core.space import Codes, Space
from anamorph.data.codes import encode_dataset
from anamorph.data.images import Images, InMemory


class Conditioned(Encodes):
    """An encoder that adds ten times the class to the mean of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.signal = Image(1, 2, 2)
        self.spaces = (Space("z", (1,)),)
        self.scale = nn.Parameter(torch.ones(()))

    def _encode(self, x: Tensor, labels: Labels) -> Codes:
        return {"z": (x.mean((1, 2, 3)) * self.scale + 10 * labels["class"])[:, None]}

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        return codes["z"][:, :, None, None].expand(-1, 1, 2, 2)


def test_an_encoder_that_is_conditioned_gets_the_labels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 1, 2, 2), dtype=np.uint8)
    classes = np.array([0, 1, 2, 0, 1, 2])
    images = Images("x", InMemory(pixels), np.arange(6), (Label("class", ("a", "b", "c")),), {"class": classes})
    codes = encode_dataset(Conditioned(), images, tmp_path)
    assert codes.codes["z"][:, 0].round(decimals=-1).tolist() == [0, 10, 20, 0, 10, 20]
    assert codes.values["class"].tolist() == classes.tolist()
