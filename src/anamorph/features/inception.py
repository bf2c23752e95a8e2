"""The Inception-v3 network that FID is published with: its architecture, under the names of its published weights.

Szegedy et al. 2015, arXiv:1512.00567; the graph of 2015-12-05 that Heusel et al. 2017 use, as in the file
pt_inception-2015-12-05-6726825d.pth of github.com/mseitzer/pytorch-fid. Untested with the published weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anamorph.features.network import ClassifierNetwork, in_channels

__all__ = ["InceptionV3", "resized_as_tensorflow_1"]

SIDE = 299
CLASSES = 1008
"""Of the graph's output; 1,000 are ImageNet's."""


class _Convolved(nn.Module):
    """A convolution without bias, batch normalisation (epsilon 0.001) and ReLU."""

    def __init__(self, channels: int, wide: int, kernel: tuple[int, int], stride: int, padding: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, wide, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(wide, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


@dataclass(frozen=True)
class _Step:
    """One convolution of a branch. parts: two of them, of different kernels, beside each other, their outputs joined."""

    name: str
    wide: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    parts: tuple[str, str] | None = None

    def modules(self, channels: int) -> dict[str, nn.Module]:
        if self.parts:
            return {
                self.name + part: _Convolved(channels, self.wide, kernel, 1, (kernel[0] // 2, kernel[1] // 2))
                for part, kernel in zip(self.parts, ((1, 3), (3, 1)), strict=True)
            }
        padding = (self.kernel[0] // 2, self.kernel[1] // 2) if self.stride == 1 else (0, 0)
        return {self.name: _Convolved(channels, self.wide, self.kernel, self.stride, padding)}


class _Mixed(nn.Module):
    """Branches beside each other, and one that pools, joined. pooled: its width; None: no convolution, stride 2."""

    def __init__(
        self, channels: int, branches: Sequence[Sequence[_Step]], pooled: int | None, pool: Literal["mean", "max"] = "mean"
    ) -> None:
        super().__init__()
        self.branches, self.pool = branches, pool
        for branch in branches:
            wide = channels
            for step in branch:
                for name, module in step.modules(wide).items():
                    self.add_module(name, module)
                wide = step.wide
        if pooled is not None:
            self.branch_pool = _Convolved(channels, pooled, (1, 1), 1, (0, 0))
        self.strided = pooled is None

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for branch in self.branches:
            y = x
            for step in branch:
                y = torch.cat([self.get_submodule(step.name + part)(y) for part in step.parts or ("",)], 1)
            outputs.append(y)
        if self.strided:
            return torch.cat([*outputs, F.max_pool2d(x, 3, 2)], 1)
        # TensorFlow's mean leaves out what lies beyond the border; the last block pools by the greatest.
        pooled = F.max_pool2d(x, 3, 1, 1) if self.pool == "max" else F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return torch.cat([*outputs, self.branch_pool(pooled)], 1)


def _a(channels: int, pooled: int) -> _Mixed:
    five = [_Step("branch5x5_1", 48), _Step("branch5x5_2", 64, (5, 5))]
    double = [_Step("branch3x3dbl_1", 64), _Step("branch3x3dbl_2", 96, (3, 3)), _Step("branch3x3dbl_3", 96, (3, 3))]
    return _Mixed(channels, [[_Step("branch1x1", 64)], five, double], pooled)


def _b(channels: int) -> _Mixed:
    double = [_Step("branch3x3dbl_1", 64), _Step("branch3x3dbl_2", 96, (3, 3)), _Step("branch3x3dbl_3", 96, (3, 3), 2)]
    return _Mixed(channels, [[_Step("branch3x3", 384, (3, 3), 2)], double], None)


def _c(channels: int, wide: int) -> _Mixed:
    across, down = (1, 7), (7, 1)
    seven = [_Step("branch7x7_1", wide), _Step("branch7x7_2", wide, across), _Step("branch7x7_3", 192, down)]
    widths, kernels = (wide, wide, wide, wide, 192), ((1, 1), down, across, down, across)
    double = [_Step(f"branch7x7dbl_{i + 1}", w, k) for i, (w, k) in enumerate(zip(widths, kernels, strict=True))]
    return _Mixed(channels, [[_Step("branch1x1", 192)], seven, double], 192)


def _d(channels: int) -> _Mixed:
    three = [_Step("branch3x3_1", 192), _Step("branch3x3_2", 320, (3, 3), 2)]
    names = [_Step("branch7x7x3_1", 192), _Step("branch7x7x3_2", 192, (1, 7)), _Step("branch7x7x3_3", 192, (7, 1))]
    return _Mixed(channels, [three, [*names, _Step("branch7x7x3_4", 192, (3, 3), 2)]], None)


def _e(channels: int, pool: Literal["mean", "max"]) -> _Mixed:
    three = [_Step("branch3x3_1", 384), _Step("branch3x3_2", 384, parts=("a", "b"))]
    double = [_Step("branch3x3dbl_1", 448), _Step("branch3x3dbl_2", 384, (3, 3))]
    double.append(_Step("branch3x3dbl_3", 384, parts=("a", "b")))
    return _Mixed(channels, [[_Step("branch1x1", 320)], three, double], 192, pool)


class InceptionV3(ClassifierNetwork):
    """Features [B, 2048] ("pool3") of images, and what it takes them for.

    Images are brought to 299x299 as TensorFlow 1 does, and to (byte - 128) / 128, as the graph does itself.
    """

    name = "inception-v3-fid"
    resizer = "TensorFlow 1 bilinear to 299x299"
    width = 2048

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolved(3, 32, (3, 3), 2, (0, 0))
        self.Conv2d_2a_3x3 = _Convolved(32, 32, (3, 3), 1, (0, 0))
        self.Conv2d_2b_3x3 = _Convolved(32, 64, (3, 3), 1, (1, 1))
        self.Conv2d_3b_1x1 = _Convolved(64, 80, (1, 1), 1, (0, 0))
        self.Conv2d_4a_3x3 = _Convolved(80, 192, (3, 3), 1, (0, 0))
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _a(192, 32), _a(256, 64), _a(288, 64)
        self.Mixed_6a = _b(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (_c(768, wide) for wide in (128, 160, 160, 192))
        self.Mixed_7a = _d(768)
        self.Mixed_7b, self.Mixed_7c = _e(1280, "mean"), _e(2048, "max")
        self.fc = nn.Linear(2048, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = resized_as_tensorflow_1(in_channels(x, 3), SIDE, SIDE)
        x = (x * 127.5 + 127.5 - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))

    def probabilities(self, x: Tensor) -> dict[str, Tensor]:
        """Without the bias of the output, as the published Inception Scores are taken."""
        return {"imagenet": (self(x) @ self.fc.weight.mT).softmax(1)}


def resized_as_tensorflow_1(x: Tensor, height: int, width: int) -> Tensor:
    """Return images [B, C, H, W] by bilinear interpolation as TensorFlow 1's resize_bilinear: output pixel i is read at i H /
    height, so that the first pixels coincide, and nothing is smoothed before it is made smaller."""
    rows, columns = _weights(x.shape[2], height, x), _weights(x.shape[3], width, x)
    return torch.einsum("hr,bcrw,vw->bchv", rows, x, columns)


def _weights(size: int, target: int, like: Tensor) -> Tensor:
    """Return the share [target, size] of every pixel in every output pixel along one axis."""
    place = torch.arange(target, device=like.device, dtype=torch.float64) * (size / target)
    low = place.long().clamp(max=size - 1)
    high = (low + 1).clamp(max=size - 1)
    share = (place - low)[:, None]
    eye = torch.eye(size, device=like.device, dtype=torch.float64)
    return ((1 - share) * eye[low] + share * eye[high]).to(like.dtype)
