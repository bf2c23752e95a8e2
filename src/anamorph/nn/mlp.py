"""Multi-layer perceptrons between images and vectors: the networks of every model here without convolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from anamorph.nn.equalized import Linear

__all__ = ["MLP", "Activation", "leaky", "linear"]

Activation = Callable[[Tensor], Tensor]


def leaky(slope: float) -> Activation:
    """Return a leaky ReLU that works in place: its gradient follows from its output, so its input need not be stored."""
    return partial(F.leaky_relu, negative_slope=slope, inplace=True)


def linear(x: Tensor) -> Tensor:
    """Return `x` itself: the activation of networks that are linear as released."""
    return x


class MLP(nn.Module):
    """Fully connected layers, [B, widths[0]] -> [B, widths[-1]].

    Args:
        widths: features before, between and after the layers.
        hidden: activation between layers.
        last: activation after the last layer; None: none.
        lr_multiplier: multiplies the learning rate of all layers under `lreq_adam`.
    """

    def __init__(
        self, widths: Sequence[int], hidden: Activation, last: Activation | None = None, lr_multiplier: float = 1.0
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Linear(a, b, lr_multiplier=lr_multiplier) for a, b in pairwise(widths))
        self.activation, self.last = hidden, last

    def hidden(self, x: Tensor) -> Tensor:
        """Return the activation before the last layer [B, widths[-2]]."""
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers[-1](self.hidden(x))
        return x if self.last is None else self.last(x)
