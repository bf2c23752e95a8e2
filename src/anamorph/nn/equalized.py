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

__all__ = ["Conv", "Linear", "equalized_adam", "lr_multipliers_of", "lreq_adam", "pixel_norm"]


class Linear(nn.Linear):
    """An affine map [B, inputs] -> [B, outputs] with He's initialisation, N(0, gain^2 / inputs), and bias 0.

    rate multiplies the learning rate of this layer under `lreq_adam` (StyleGAN's and ALAE's lrmul).
    """

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(
        self, inputs: int, outputs: int, gain: float = math.sqrt(2.0), lr_multiplier: float = 1.0, bias: bool = True
    ) -> None:
        super().__init__(inputs, outputs, bias)
        self.gain, self.lr_multiplier = gain, lr_multiplier
        nn.init.normal_(self.weight, std=gain / math.sqrt(inputs))
        if bias:
            nn.init.zeros_(self.bias)

    def lr_multipliers(self) -> dict[nn.Parameter, float]:
        """The factor on the learning rate of each parameter: the constant that the original multiplies at run time."""
        constant = {self.weight: self.lr_multiplier * self.gain / math.sqrt(self.in_features)}
        return constant | ({self.bias: self.lr_multiplier} if self.bias is not None else {})


class Conv(nn.Conv2d):
    """A convolution [B, inputs, H, W] -> [B, outputs, H, W], zero-padded, with He's initialisation and bias 0."""

    weight: nn.Parameter

    def __init__(self, inputs: int, outputs: int, size: int = 3, gain: float = math.sqrt(2.0), bias: bool = True) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2, bias=bias)
        self.gain = gain
        nn.init.normal_(self.weight, std=gain / math.sqrt(self.weight[0].numel()))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def lr_multipliers(self) -> dict[nn.Parameter, float]:
        """The factor on the learning rate of the weight: He's constant."""
        return {self.weight: self.gain / math.sqrt(self.weight[0].numel())}


def lr_multipliers_of(*modules: nn.Module) -> dict[nn.Parameter, float]:
    """The factor on the learning rate of every parameter of some modules; 1 where a layer names none.

    Read off the layers at each call, so that no copy or loading of a model can lose it.
    """
    coefficients = {p: 1.0 for module in modules for p in module.parameters()}
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, Linear | Conv):
                coefficients |= layer.lr_multipliers()
    return coefficients


def lreq_adam(learning_rate: float, *modules: nn.Module, beta2: float = 0.99) -> Adam:
    """ALAE's LREQAdam: Adam with beta1 = 0, eps added to the uncorrected root, and equalised rates."""
    coefficients = lr_multipliers_of(*modules)
    return Adam(list(coefficients), learning_rate, (0.0, beta2), lr_multipliers=list(coefficients.values()), eps_mode="raw")


def equalized_adam(learning_rate: float, *modules: nn.Module, beta2: float = 0.99) -> Adam:
    """Adam with beta1 = 0 as the original equalised nets are trained with it (Karras et al. 2017, appendix A.1): those keep
    weights without He's constant and multiply by it, so eps weighs as much more here as the constant is smaller than one."""
    found = lr_multipliers_of(*modules)
    eps = [1e-8 / coefficient for coefficient in found.values()]
    return Adam(list(found), learning_rate, (0.0, beta2), eps, list(found.values()), eps_mode="raw")


def pixel_norm(z: Tensor, eps: float = 1e-8) -> Tensor:
    """z [B, D, ...] scaled to a mean square of one over D (Karras et al. 2017, section 4.2)."""
    return z * torch.rsqrt(z.square().mean(1, keepdim=True) + eps)
