"""Spectral normalisation: layers whose weight is divided by its largest singular value.

Miyato, Kataoka, Koyama, Yoshida 2018, "Spectral Normalization for Generative Adversarial Networks", arXiv:1802.05957,
section 2.1 and Algorithm 1. The singular vectors are buffers, which forward passes only read. `commit` improves them by one
power iteration per training step: micro-batches, processes and compiled steps then agree with the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anamorph.core.precision import autocast_off

__all__ = ["SpectralConv2d", "SpectralLinear", "spectral_commits"]

START_ITERATIONS = 15
"""Power iterations before training, so that the first steps are normalised, too."""


class _SpectralNorm(nn.Module):
    """Spectral normalisation of a layer's weight, with its singular vectors as buffers."""

    weight: Any
    left: Tensor
    right: Tensor

    def _start(self) -> None:
        matrix = self.weight.detach().flatten(1)
        self.register_buffer("left", F.normalize(torch.randn(len(matrix)), dim=0))
        self.register_buffer("right", F.normalize(torch.randn(matrix.shape[1]), dim=0))
        for _ in range(START_ITERATIONS):
            self.commit()

    def normalised_weight(self) -> Tensor:
        """Return the weight divided by the estimate of its largest singular value."""
        with autocast_off(self.weight):
            return self.weight / torch.dot(self.left, self.weight.flatten(1) @ self.right)

    @torch.no_grad()
    def commit(self) -> None:
        """Improve the singular vectors by one power iteration."""
        matrix = self.weight.flatten(1)
        self.right.copy_(F.normalize(matrix.t() @ self.left, dim=0))
        self.left.copy_(F.normalize(matrix @ self.right, dim=0))


class SpectralLinear(_SpectralNorm, nn.Linear):
    """A spectrally normalised affine map [B, inputs] -> [B, outputs]."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self._start()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.normalised_weight(), self.bias)


class SpectralConv2d(_SpectralNorm, nn.Conv2d):
    """A spectrally normalised convolution [B, inputs, H, W] -> [B, outputs, H', W'], of the weight as a matrix."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1, padding: int = 1) -> None:
        super().__init__(inputs, outputs, size, stride, padding)
        self._start()

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.normalised_weight(), self.bias)


def spectral_commits(module: nn.Module) -> tuple[Callable[[], None], ...]:
    """Return the commits of all spectrally normalised layers, for the phase that trains them."""
    return tuple(layer.commit for layer in module.modules() if isinstance(layer, _SpectralNorm))
