"""Layers with an equalised learning rate, and the Adam optimizers that apply it.

Karras et al. 2017 (arXiv:1710.10196, section 4.1) scale a unit-variance weight by He's constant at run time, so that
Adam's steps are as large, relative to the weight, in every layer. ALAE (arXiv:2004.04467) folds that constant into the
stored weight and the learning rate instead ("implicitly"), so that the forward pass is an ordinary linear map.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from anamorph.core.errors import UserError
from anamorph.core.optimizer import Adam

__all__ = ["Conv", "Linear", "equalized_adam", "lr_multipliers_of", "lreq_adam", "pixel_norm", "stored_parameter"]


class Linear(nn.Linear):
    """An affine map [B, inputs] -> [B, outputs] with He's initialisation, N(0, gain^2 / inputs), and bias 0.

    Args:
        inputs: input features.
        outputs: output features.
        gain: of the initialisation; sqrt(2) suits a following ReLU.
        lr_multiplier: multiplies the learning rate of this layer under `lreq_adam` (StyleGAN's and ALAE's lrmul).
        bias: whether a bias is added.
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
        """Return each parameter's factor on the learning rate; the weight's is the constant of the original's forward pass.

        Raises: UserError as `stored_parameter`.
        """
        factors = {stored_parameter(self, "weight"): self.lr_multiplier * self.gain / math.sqrt(self.in_features)}
        return factors | ({stored_parameter(self, "bias"): self.lr_multiplier} if self.bias is not None else {})


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
        """Return the weight's factor on the learning rate, He's constant.

        Raises: UserError as `stored_parameter`.
        """
        weight = stored_parameter(self, "weight")
        return {weight: self.gain / math.sqrt(weight[0].numel())}


def stored_parameter(layer: nn.Module, name: str) -> nn.Parameter:
    """Return the parameter that a layer's tensor is stored as.

    This is the tensor itself or, where it is reparametrised (as by `torch.nn.utils.parametrizations.spectral_norm`), the
    parameter that it is computed from.

    Raises: UserError if the tensor is computed from several parameters, as by weight normalisation.
    """
    parameters = dict(layer.named_parameters())
    for key in (name, f"parametrizations.{name}.original", f"{name}_orig"):
        if key in parameters:
            return parameters[key]
    raise UserError(
        f"the {name} of an equalised {layer._get_name()} is no parameter, and not computed from a single one (the layer has "
        f"{', '.join(parameters) or 'none'}): reparametrise it from one parameter, as spectral_norm does, or use a layer of "
        "torch.nn, whose learning rate is not equalised"
    )


def lr_multipliers_of(*modules: nn.Module) -> dict[nn.Parameter, float]:
    """Return the factor on the learning rate of every parameter of some modules; 1 outside equalised layers.

    Computed from the layers at each call, so that copying or loading a model cannot lose it.

    Raises: UserError for an equalised layer whose weight is computed from several parameters.
    """
    multipliers = {p: 1.0 for module in modules for p in module.parameters()}
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, Linear | Conv):
                multipliers |= layer.lr_multipliers()
    return multipliers


def lreq_adam(learning_rate: float, *modules: nn.Module, beta2: float = 0.99) -> Adam:
    """Return ALAE's LREQAdam: Adam with beta1 = 0, eps added to the uncorrected root, and equalised learning rates."""
    multipliers = lr_multipliers_of(*modules)
    return Adam(list(multipliers), learning_rate, (0.0, beta2), lr_multipliers=list(multipliers.values()), eps_mode="raw")


def equalized_adam(learning_rate: float, *modules: nn.Module, beta2: float = 0.99) -> Adam:
    """Return Adam with beta1 = 0 and equalised learning rates, as in Karras et al. 2017, appendix A.1.

    The original stores weights without He's constant, so their gradients are smaller by that factor. Eps is divided by it
    here, which gives the same steps.
    """
    multipliers = lr_multipliers_of(*modules)
    eps = [1e-8 / multiplier for multiplier in multipliers.values()]
    return Adam(list(multipliers), learning_rate, (0.0, beta2), eps, list(multipliers.values()), eps_mode="raw")


def pixel_norm(z: Tensor, eps: float = 1e-8) -> Tensor:
    """Scale z [B, D, ...] to a mean square of one over D (Karras et al. 2017, section 4.2)."""
    return z * torch.rsqrt(z.square().mean(1, keepdim=True) + eps)
