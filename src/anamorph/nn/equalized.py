"""Layers with an equalised learning rate, and the Adam that honours it.

Karras et al. 2017 (arXiv:1710.10196, section 4.1) scale a unit-variance weight by He's constant at run time, so that
Adam's steps are as large, relative to the weight, in every layer. ALAE (arXiv:2004.04467) folds that constant into the
stored weight and into the optimizer's rate instead, "implicitly": the forward pass is then an ordinary linear map.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from anamorph.core.optimizer import Adam

__all__ = ["Linear", "lreq_adam", "pixel_norm", "rate_coefficients"]


class Linear(nn.Linear):
    """An affine map [B, inputs] -> [B, outputs] with He's initialisation, N(0, gain^2 / inputs), and bias 0.

    rate multiplies the learning rate of this layer under `lreq_adam` (StyleGAN's and ALAE's lrmul).
    """

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(self, inputs: int, outputs: int, gain: float = math.sqrt(2.0), rate: float = 1.0) -> None:
        super().__init__(inputs, outputs)
        self.gain, self.rate = gain, rate
        nn.init.normal_(self.weight, std=gain / math.sqrt(inputs))
        nn.init.zeros_(self.bias)

    def coefficients(self) -> dict[nn.Parameter, float]:
        """The factor on the learning rate of each parameter: the constant that the original multiplies at run time."""
        return {self.weight: self.rate * self.gain / math.sqrt(self.in_features), self.bias: self.rate}


def rate_coefficients(*modules: nn.Module) -> dict[nn.Parameter, float]:
    """The factor on the learning rate of every parameter of some modules; 1 where a layer names none.

    Read off the layers at each call, so that no copy or loading of a model can lose it.
    """
    coefficients = {p: 1.0 for module in modules for p in module.parameters()}
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, Linear):
                coefficients |= layer.coefficients()
    return coefficients


def lreq_adam(rate: float, *modules: nn.Module, beta2: float = 0.99) -> Adam:
    """ALAE's LREQAdam: Adam with beta1 = 0, eps added to the uncorrected root, and equalised rates."""
    coefficients = rate_coefficients(*modules)
    return Adam(list(coefficients), rate, (0.0, beta2), coefficients=list(coefficients.values()), epsilon="raw")


def pixel_norm(z: Tensor, eps: float = 1e-8) -> Tensor:
    """z [B, D] scaled to a mean square of one (Karras et al. 2017, section 4.2)."""
    return z * torch.rsqrt(z.square().mean(1, keepdim=True) + eps)
