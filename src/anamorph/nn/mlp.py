"""Multi-layer perceptrons between images and vectors; the nets of every model here that has no convolutions."""

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
    """Leaky ReLU, in place: its gradient is read off its result, so nothing else need be kept."""
    return partial(F.leaky_relu, negative_slope=slope, inplace=True)


def linear(x: Tensor) -> Tensor:
    """Return `x` itself: the activation of networks that are linear as released."""
    return x


class MLP(nn.Module):
    """Linear layers of given widths, [B, widths[0]] -> [B, widths[-1]], with activations between and, if asked, after them.

    rate multiplies the learning rate of all layers under `lreq_adam`.
    """

    def __init__(
        self, widths: Sequence[int], hidden: Activation, last: Activation | None = None, lr_multiplier: float = 1.0
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Linear(a, b, lr_multiplier=lr_multiplier) for a, b in pairwise(widths))
        self.activation, self.last = hidden, last

    def hidden(self, x: Tensor) -> Tensor:
        """The activation before the last layer, [B, widths[-2]]."""
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers[-1](self.hidden(x))
        return x if self.last is None else self.last(x)
