"""Adam with a learning-rate coefficient per parameter: the one optimizer that all models here are trained with.

It exists twice, with the same result: `step` calls torch's fused kernel; `traced_step` is plain tensor arithmetic that a
compiler fuses with the gradients that feed it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

__all__ = ["SPIKE_CLIP", "Adam", "MissingGradient"]

SPIKE_CLIP = 3.0
"""A clip for models that minimise an error. A VAE's gradients were 0.4 to 2 times as large as usual until, after 1.7 million
images, those of one batch were 31 times: unclipped, or clipped at 10, it was the model's end; at 3, its loss went on."""

MissingGradient = Literal["skip", "zero"]
"""What happens to a parameter without a gradient. skip: nothing. zero: once it has been stepped, it is stepped with a
gradient of zero, so that its moments decay."""


class Adam:
    """Adam (Kingma and Ba 2014, arXiv:1412.6980, Algorithm 1) over some parameters.

    coefficients: multiply the rate, one per parameter (equalised learning rates).
    eps: one for all, or one per parameter.
    epsilon: "corrected" adds eps to the bias-corrected root, as the paper and torch do; "raw" adds it to sqrt(v) itself,
        as TensorFlow's AdamOptimizer and ALAE's LREQAdam do, which makes it larger early on.
    clip: a gradient whose norm is more than so many times what v says is usual for it is scaled down to that. A batch unlike
        all others, met when v has become small, would else move every weight by many times the rate. None: never, as in the
        paper.
    With betas[0] == 0 no first moment is kept. Each parameter counts its own steps; one without a gradient is skipped.
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
        if len(set(parameters)) != len(parameters):
            raise ValueError("a parameter was given twice: each is stepped once")
        self.parameters = list(parameters)
        self.learning_rate, self.betas, self.eps_mode, self.clip = learning_rate, betas, eps_mode, clip
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

    def reset(self) -> None:
        """Forget all moments and counts, as at the start of an era."""
        for tensor in self.state().values():
            tensor.zero_()

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor | None], lr_scale: float, missing_gradient: MissingGradient) -> None:
        """Move each parameter along its gradient, one per parameter, with the rate times `scale`."""
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
        """One call for parameters that share rate and count; it counts on by itself."""
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
        """known: 1 - beta2^t, the share of v that the t steps so far make up. Before the first one, nothing is usual."""
        if self.clip is None:
            return gradient
        square = gradient.float().square().sum() * known
        usual = self.clip**2 * self.exp_avg_sq[i].sum()
        return gradient * torch.where(square > usual, (usual / square).sqrt(), 1.0).to(gradient.dtype)

    def advance(self, present: Sequence[bool], lr_scale: float, missing_gradient: MissingGradient) -> Tensor:
        """Count a step of the parameters that have a gradient, and give what `traced_step` needs of the counts:
        rates, roots of 1 - beta2^t, and 1 - beta2^(t - 1), [3, parameters]."""
        beta1, beta2 = self.betas
        count = self.steps.double() + 1  # in float64, since beta^t is close to one early on
        root = (1 - beta2**count).sqrt()
        rate = torch.tensor(self.lr_multipliers, dtype=torch.float64, device=count.device) * (self.learning_rate * lr_scale)
        rate = rate / (1 - beta1**count) if self.exp_avg else rate
        # Idle and never stepped: its moments are zero, so a gradient of zero does not move it, and its count stays zero.
        stepped = torch.tensor(present, device=count.device)
        self.steps += (stepped | (self.steps > 0) if missing_gradient == "zero" else stepped).to(self.steps.dtype)
        return torch.stack([rate * root if self.eps_mode == "raw" else rate, root, 1 - beta2 ** (count - 1)]).float()

    @torch.no_grad()
    def traced_step(self, gradients: Sequence[Tensor | None], factors: Tensor, missing_gradient: MissingGradient) -> None:
        """`step` without a branch on a tensor's value, given the factors of this step; the counts have been advanced."""
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


def _laid_out(gradient: Tensor, parameter: Tensor) -> Tensor:
    """A gradient in the layout of its parameter: the fused kernel goes through the memory of both."""
    return gradient if gradient.stride() == parameter.stride() else torch.empty_like(parameter).copy_(gradient)
