"""A whole training step as one compiled function: losses, gradients, optimizer steps, commits and the EMA of the weights.

Compiled whole, a gradient flows into the optimizer's arithmetic without being written to memory at full precision, a weight
is cast to lower precision where it is updated instead of wherever it is used, and nothing runs in Python in between.
Whatever cannot be compiled comes from outside: random numbers are generated before the call (a dry run of each loss shows
which), and what changes from step to step (alpha, learning rates, the EMA's weight) comes as tensors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.optimizer import Adam, Optimizer, TracedOptimizer
from anamorph.core.random import Random, Recorder, Replay, Request
from anamorph.core.recipe import LossOutput, Phase
from anamorph.core.signal import Batch
from anamorph.core.stage import Stage
from anamorph.training.gradients import Gradients, compute_gradients, route
from anamorph.training.run import Run

__all__ = ["CompiledStep"]


@dataclass(frozen=True)
class _Known:
    """The result of a dry run of a phase's loss: the random numbers that it requests, and the parameters that it reaches."""

    requests: list[Request]
    reached: list[bool]


class CompiledStep:
    """The compiled functions of a run, made when they are first needed: one per set of phases, level and batch.

    Raises:
        UserError: if this torch cannot trace gradients (before 2.11).
    """

    def __init__(self, run: Run) -> None:
        config = torch._dynamo.config
        if not hasattr(config, "trace_autograd_ops"):
            raise UserError(
                f"torch {torch.__version__} cannot compile a step whole: install torch 2.11 or newer, or use --compile off"
            )
        config.trace_autograd_ops = True
        _put_channels_last(run)
        self.run = run
        self._known: dict[tuple[object, ...], _Known] = {}
        self._functions: dict[tuple[object, ...], Callable[..., Any]] = {}
        self.steps_optimizers = all(isinstance(o, TracedOptimizer) for o in run.recipe.optimizers.values())
        """Whether `step` can be used; otherwise the gradients are compiled, and the optimizers step eagerly."""

    def step(self, phases: Sequence[Phase], batch: Batch, stage: Stage) -> dict[str, LossOutput]:
        """Run the phases one after the other, and update the EMA."""
        known = [self._explore(phase, batch, stage) for phase in phases]
        randoms = [self.run.random(phase) for phase in phases]
        draws = [[random.generate(request) for request in k.requests] for random, k in zip(randoms, known, strict=True)]
        factors = [self._advance(phase, k, stage) for phase, k in zip(phases, known, strict=True)]
        key = (*(phase.name for phase in phases), *self._shape(batch, stage))
        share = self._tensor(self.run.ema.weight(stage.batch, self.run.images))
        arguments = (batch, draws, self._tensor(stage.alpha), factors, share)
        outcomes: list[LossOutput] = self._call(key, self._step(phases, stage), *arguments)
        return {phase.name: outcome for phase, outcome in zip(phases, outcomes, strict=True)}

    def gradients(self, phase: Phase, batch: Batch, stage: Stage, random: Random) -> tuple[LossOutput, Gradients]:
        """Compute a phase's loss and gradients, which are then averaged or stepped outside the compiled function."""
        requests = self._explore(phase, batch, stage).requests
        key = ("gradients", phase.name, *self._shape(batch, stage))
        draws = [random.generate(request) for request in requests]
        found: tuple[LossOutput, Gradients] = self._call(
            key, self._gradients(phase, stage), batch, draws, self._tensor(stage.alpha)
        )
        return found

    def _call(self, key: tuple[object, ...], function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function, compiled at its first call; uncompiled, with a warning, if the compiler fails at it."""
        if key not in self._functions:
            try:
                compiled = self._compile(function, key)
                result = compiled(*arguments)
            except torch._dynamo.exc.TorchDynamoException as error:  # what it raises, whichever part of it fails
                reason = str(error).strip().splitlines()[0]
                warnings.warn(f"the step cannot be compiled here, and runs slower without ({reason:.200})", stacklevel=2)
                compiled = function
                result = function(*arguments)
            self._functions[key] = compiled
            return result
        return self._functions[key](*arguments)

    def _shape(self, batch: Batch, stage: Stage) -> tuple[object, ...]:
        return (stage.level, stage.alpha == 1, len(batch), *batch.labels)

    def _tensor(self, value: float | Tensor) -> Tensor:
        return torch.as_tensor(value, device=self.run.compute.device)

    def _explore(self, phase: Phase, batch: Batch, stage: Stage) -> _Known:
        """Run a phase's loss once if this shape is new, and undo what it gathered."""
        key = (phase.name, *self._shape(batch, stage))
        if key not in self._known:
            buffers = [*self.run.model.buffers(), *self.run.recipe.loss_state.buffers()]
            before = [buffer.clone() for buffer in buffers]
            recorder = Recorder(self.run.random(phase))
            _, found = compute_gradients(phase, batch, stage, recorder, self.run.compute)
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
            self._known[key] = _Known(recorder.requests, [g is not None for g in found])
        return self._known[key]

    def _advance(self, phase: Phase, known: _Known, stage: Stage) -> list[Tensor]:
        """Count a step of each optimizer that a phase steps, and return its factors."""
        found: Gradients = [torch.empty(0) if reached else None for reached in known.reached]
        return [
            _traced(optimizer).advance([g is not None for g in own], stage.lr_scale, self.run.recipe.missing_gradient)
            for optimizer, own in route(self.run.recipe, phase, found)
        ]

    def _step(self, phases: Sequence[Phase], stage: Stage) -> Callable[..., list[LossOutput]]:
        run, recipe = self.run, self.run.recipe

        def step(
            batch: Batch, draws: list[list[Tensor]], alpha: Tensor, factors: list[list[Tensor]], share: Tensor
        ) -> list[LossOutput]:
            outcomes = []
            for phase, own_draws, own_factors in zip(phases, draws, factors, strict=True):
                outcome, found = compute_gradients(phase, batch, _with_alpha(stage, alpha), Replay(own_draws), run.compute)
                for (optimizer, own), factor in zip(route(recipe, phase, found), own_factors, strict=True):
                    _traced(optimizer).traced_step(own, factor, recipe.missing_gradient)
                for commit in phase.commit:
                    commit()
                outcomes.append(outcome)
            run.ema.update(share)
            return outcomes

        return step

    def _gradients(self, phase: Phase, stage: Stage) -> Callable[..., tuple[LossOutput, Gradients]]:
        machine = self.run.compute

        def whole(batch: Batch, draws: list[Tensor], alpha: Tensor) -> tuple[LossOutput, Gradients]:
            return compute_gradients(phase, batch, _with_alpha(stage, alpha), Replay(draws), machine)

        return whole

    def _compile(self, function: Callable[..., Any], key: tuple[object, ...]) -> Callable[..., Any]:
        # The compiler's cache belongs to a code object: a copy of it keeps the functions' caches apart. Between calls, nothing
        # that they depend on changes but what is in the key, so the compiler's own checks at each call are left out.
        code = function.__code__.replace()
        alone = FunctionType(code, function.__globals__, " ".join(map(str, key)), None, function.__closure__)
        options: dict[str, Any] = {
            "guard_filter_fn": torch.compiler.skip_all_guards_unsafe,
            # In float32, it turns sums of weight gradients into products that add to a copy: 8 % slower (measured).
            "pattern_matcher": self.run.compute.precision != "float32",
            # This key is the only way to pass a flag to the C++ compiler. GCC 12, when it joins straight-line code into
            # vectors, makes NaN of transposed tiles of bfloat16 on AVX-512; loops are vectorised before it sees them.
            "cpp.enable_floating_point_contract_flag": "off -fno-tree-slp-vectorize",
        }
        return torch.compile(alone, fullgraph=True, dynamic=False, options=options)


def _traced(optimizer: Optimizer) -> TracedOptimizer:
    assert isinstance(optimizer, TracedOptimizer)
    return optimizer


def _put_channels_last(run: Run) -> None:
    """Lay out convolution kernels, their EMA and moments channels last, which feature maps then follow.

    Convolutions of low precision are fastest so. The values stay.
    """
    kernels = [p for module in (run.model, run.ema.model) for p in module.parameters() if p.dim() == 4]
    for kernel in kernels:
        kernel.data = kernel.data.contiguous(memory_format=torch.channels_last)
    for optimizer in run.recipe.optimizers.values():
        for moments in (optimizer.exp_avg, optimizer.exp_avg_sq) if isinstance(optimizer, Adam) else ():
            moments[:] = [m.contiguous(memory_format=torch.channels_last) if m.dim() == 4 else m for m in moments]


def _with_alpha(stage: Stage, alpha: Tensor) -> Stage:
    """Return the stage with its alpha as a tensor, which changes from call to call; where nothing fades, it stays one."""
    return stage if stage.alpha == 1 else replace(stage, alpha=alpha)
