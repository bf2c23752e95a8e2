"""Optimizers: a small protocol, Adam with a learning-rate multiplier per parameter, and an adapter for those of torch.

Adam exists twice, with the same result: `step` calls torch's fused kernel; `traced_step` is plain tensor arithmetic that a
compiler fuses with the gradients that feed it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

__all__ = ["SPIKE_CLIP", "Adam", "MissingGradient", "Optimizer", "TorchOptimizer", "TracedOptimizer", "lazy_adam_settings"]

SPIKE_CLIP = 3.0
"""A clip for models that minimise an error. A VAE's gradients were 0.4 to 2 times as large as usual until, after 1.7 million
images, those of one batch were 31 times: unclipped, or clipped at 10, that ended the model; at 3, its loss went on."""

MissingGradient = Literal["skip", "zero"]
"""What happens to a parameter without a gradient. skip: nothing. zero: once it has been stepped, it is stepped with a gradient
of zero, so that its moments decay."""


class Optimizer(ABC):
    """What a recipe needs of an optimizer: parameters, steps, and a state that can be saved and restored.

    Raises:
        ValueError: if a parameter is given twice, or is none.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], learning_rate: float) -> None:
        for parameter in parameters:
            if not isinstance(parameter, nn.Parameter):
                raise ValueError(
                    f"an optimizer steps parameters, got a computed tensor {list(parameter.shape)}: of a reparametrised layer, "
                    f"give what the weight is computed from"
                )
        if len(set(parameters)) != len(parameters):
            raise ValueError("a parameter was given twice: each is stepped once")
        self.parameters = list(parameters)
        self.learning_rate = learning_rate

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Return every tensor that a later step depends on, by name; the same names and shapes at all times."""

    @abstractmethod
    def step(self, gradients: Sequence[Tensor | None], lr_scale: float, missing_gradient: MissingGradient) -> None:
        """Step each parameter along its gradient, one per parameter, with the learning rate times `lr_scale`."""

    def reset(self) -> None:
        """Forget the state, as at the start of training."""
        for tensor in self.state().values():
            tensor.zero_()


class TracedOptimizer(Optimizer):
    """An optimizer with a second form of the same step, without a branch on a tensor's value, for compiled steps."""

    @abstractmethod
    def advance(self, present: Sequence[bool], lr_scale: float, missing_gradient: MissingGradient) -> Tensor:
        """Count a step of the parameters that have a gradient; return the factors that `traced_step` needs of the counts."""

    @abstractmethod
    def traced_step(self, gradients: Sequence[Tensor | None], factors: Tensor, missing_gradient: MissingGradient) -> None:
        """Step as `step` does, given the factors of this step; the counts have been advanced."""


def lazy_adam_settings(learning_rate: float, betas: tuple[float, float], interval: int) -> tuple[float, tuple[float, float]]:
    """Correct Adam's settings for an optimizer that steps once more in every `interval` steps (lazy regularisation).

    Karras et al. 2019, "Analyzing and Improving the Image Quality of StyleGAN", arXiv:1912.04958, appendix B: with
    c = interval / (interval + 1), the learning rate is multiplied by c, and the betas are raised to the power of c.
    """
    c = interval / (interval + 1)
    return learning_rate * c, (betas[0] ** c, betas[1] ** c)


class Adam(TracedOptimizer):
    """Adam (Kingma and Ba 2014, arXiv:1412.6980, Algorithm 1). Each parameter counts its own steps.

    Args:
        parameters: what is stepped.
        learning_rate: step size, before its multipliers.
        betas: decay of the first and of the second moment; with betas[0] == 0 no first moment is kept.
        eps: one for all parameters, or one for each.
        lr_multipliers: multiply the learning rate, one per parameter (equalised learning rates); None: 1.
        eps_mode: "corrected" adds eps to the bias-corrected root, as the paper and torch do; "raw" adds it to sqrt(v) itself,
            as TensorFlow's AdamOptimizer and ALAE's LREQAdam do, which makes it larger early on.
        clip: scale a gradient down whose norm is more than `clip` times the usual norm, by v. A batch unlike all others, met
            when v has become small, would otherwise move every weight by many times the learning rate. None: never, as in the
            paper.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float | Sequence[float] = 1e-8,
        lr_multipliers: Sequence[float] | None = None,
        eps_mode: Literal["corrected", "raw"] = "corrected",
        clip: float | None = None,
    ) -> None:
        super().__init__(parameters, learning_rate)
        self.betas, self.eps_mode, self.clip = betas, eps_mode, clip
        self.eps = [eps] * len(self.parameters) if isinstance(eps, float) else list(eps)
        self.lr_multipliers = list(lr_multipliers) if lr_multipliers is not None else [1.0] * len(self.parameters)
        self.exp_avg = [torch.zeros_like(p) for p in self.parameters] if betas[0] else []
        self.exp_avg_sq = [torch.zeros_like(p) for p in self.parameters]
        self.steps = torch.zeros(len(self.parameters), device=self.parameters[0].device)
        self._steps = self.steps.unbind()  # the same memory, one number each
        self._groups: dict[tuple[float, float], list[int]] = defaultdict(list)
        for i, constants in enumerate(zip(self.lr_multipliers, self.eps, strict=True)):
            self._groups[constants].append(i)

    def state(self) -> dict[str, Tensor]:
        """Every tensor that a later step depends on, by name."""
        moments = {f"exp_avg.{i}": m for i, m in enumerate(self.exp_avg)} | {
            f"exp_avg_sq.{i}": v for i, v in enumerate(self.exp_avg_sq)
        }
        return {"steps": self.steps, **moments}

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor | None], lr_scale: float, missing_gradient: MissingGradient) -> None:
        counts = self.steps.tolist()
        given = [
            torch.zeros_like(p) if g is None and missing_gradient == "zero" and counts[i] else g
            for i, (p, g) in enumerate(zip(self.parameters, gradients, strict=True))
        ]
        if self.clip is not None:
            known = 1 - self.betas[1] ** self.steps.double()
            given = [
                g if g is None else self._clipped(i, g, share) for i, (g, share) in enumerate(zip(given, known, strict=True))
            ]
        for (coefficient, eps), group in self._groups.items():
            for count in {counts[i] for i in group}:
                members = [i for i in group if counts[i] == count]
                self._fused(members, given, self.learning_rate * lr_scale * coefficient, eps, count)

    def _fused(self, members: list[int], given: Sequence[Tensor | None], rate: float, eps: float, count: float) -> None:
        """Call the kernel for parameters that share a rate and a count; the kernel counts on by itself."""
        beta1, beta2 = self.betas
        pairs = [(i, g) for i in members if (g := given[i]) is not None]
        gradients = [_laid_out(g, self.parameters[i]) for i, g in pairs]
        if not pairs:
            return
        adam(
            [self.parameters[i] for i, _ in pairs],
            gradients,
            # Without a first moment the gradient stands in for it: the kernel then writes it back onto itself.
            [self.exp_avg[i] for i, _ in pairs] if self.exp_avg else gradients,
            [self.exp_avg_sq[i] for i, _ in pairs],
            [],
            [self._steps[i] for i, _ in pairs],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=rate,
            weight_decay=0.0,
            eps=eps if self.eps_mode == "corrected" else eps / math.sqrt(1 - beta2 ** (count + 1)),
            maximize=False,
        )

    def _clipped(self, i: int, gradient: Tensor, known: Tensor) -> Tensor:
        """Scale down a gradient that is a spike; known: 1 - beta2^t, the share of v that the t steps so far make up."""
        if self.clip is None:
            return gradient
        square = gradient.float().square().sum() * known
        usual = self.clip**2 * self.exp_avg_sq[i].sum()
        return gradient * torch.where(square > usual, (usual / square).sqrt(), 1.0).to(gradient.dtype)

    def advance(self, present: Sequence[bool], lr_scale: float, missing_gradient: MissingGradient) -> Tensor:
        """Count a step; return rates, roots of 1 - beta2^t, and 1 - beta2^(t - 1), [3, parameters]."""
        beta1, beta2 = self.betas
        count = self.steps.double() + 1  # in float64, since beta^t is close to one early on
        root = (1 - beta2**count).sqrt()
        rate = torch.tensor(self.lr_multipliers, dtype=torch.float64, device=count.device) * (self.learning_rate * lr_scale)
        rate = rate / (1 - beta1**count) if self.exp_avg else rate
        # Without a gradient and never stepped: moments are zero, a gradient of zero moves nothing, the count stays zero.
        stepped = torch.tensor(present, device=count.device)
        self.steps += (stepped | (self.steps > 0) if missing_gradient == "zero" else stepped).to(self.steps.dtype)
        return torch.stack([rate * root if self.eps_mode == "raw" else rate, root, 1 - beta2 ** (count - 1)]).float()

    @torch.no_grad()
    def traced_step(self, gradients: Sequence[Tensor | None], factors: Tensor, missing_gradient: MissingGradient) -> None:
        for i, (parameter, gradient) in enumerate(zip(self.parameters, gradients, strict=True)):
            if gradient is not None or missing_gradient == "zero":
                self._trace(i, torch.zeros_like(parameter) if gradient is None else gradient, *factors[:, i])

    def _trace(self, i: int, gradient: Tensor, rate: Tensor, root: Tensor, known: Tensor) -> None:
        beta1, beta2 = self.betas
        gradient = self._clipped(i, gradient, known)
        direction = gradient
        if self.exp_avg:
            direction = self.exp_avg[i] * beta1 + gradient * (1 - beta1)
            self.exp_avg[i].copy_(direction)
        second = self.exp_avg_sq[i] * beta2 + gradient * gradient * (1 - beta2)
        self.exp_avg_sq[i].copy_(second)
        norm = second.sqrt() if self.eps_mode == "raw" else second.sqrt() / root
        self.parameters[i].sub_(rate * direction / (norm + self.eps[i]))


class TorchOptimizer(Optimizer):
    """Any optimizer of torch.optim whose state begins at zero, such as RMSprop for a Wasserstein GAN.

    It has no traced form: in compiled runs, gradients are compiled, and it steps eagerly.

    Args:
        parameters: what is stepped.
        make: makes the optimizer of the parameters; its learning rate is that of its first group.

    Raises:
        ValueError: if the optimizer's state does not begin at zero, or it cannot step without a closure.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> None:
        self.optimizer = make(list(parameters))
        super().__init__(parameters, float(self.optimizer.param_groups[0]["lr"]))
        self._begin()

    def _begin(self) -> None:
        """Make the state that the optimizer would make at its first step, by a step that moves nothing."""
        before = [p.detach().clone() for p in self.parameters]
        self._set([torch.zeros_like(p) for p in self.parameters], 0.0)
        self.optimizer.step()
        with torch.no_grad():
            for parameter, value in zip(self.parameters, before, strict=True):
                parameter.copy_(value)
        for name, tensor in self.state().items():
            if name.endswith(".step"):
                tensor.zero_()
            elif bool(tensor.any()):
                raise ValueError(f"{type(self.optimizer).__name__} keeps a state {name!r} that does not begin at zero")

    def _set(self, gradients: Sequence[Tensor | None], lr_scale: float) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * lr_scale

    def state(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for i, parameter in enumerate(self.parameters):
            values: dict[str, Any] = self.optimizer.state[parameter]
            found |= {f"{i}.{name}": value for name, value in values.items() if isinstance(value, Tensor)}
        return found

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor | None], lr_scale: float, missing_gradient: MissingGradient) -> None:
        given = [
            torch.zeros_like(p) if g is None and missing_gradient == "zero" and self._stepped(p) else g
            for p, g in zip(self.parameters, gradients, strict=True)
        ]
        self._set(given, lr_scale)
        self.optimizer.step()
        self._set([None] * len(self.parameters), lr_scale)

    def _stepped(self, parameter: nn.Parameter) -> bool:
        steps = self.optimizer.state[parameter].get("step")
        return steps is None or bool(steps > 0)


def _laid_out(gradient: Tensor, parameter: Tensor) -> Tensor:
    """Return a gradient in the layout of its parameter: the fused kernel goes through the memory of both."""
    return gradient if gradient.stride() == parameter.stride() else torch.empty_like(parameter).copy_(gradient)
