"""Health checks of a training: some numbers at regular intervals, and a warning with a remedy when they show a problem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch import Tensor

from anamorph.core.labels import label_sizes
from anamorph.core.model import (
    EncodesPartly,
    Grows,
    HasPrior,
    Samples,
    code_space,
    decode_in_chunks,
    device_of,
    encode_in_chunks,
    nats_per_code,
)
from anamorph.core.random import Seeded
from anamorph.core.signal import Source
from anamorph.core.stage import Stage
from anamorph.training.run import Run

__all__ = ["Diagnosis", "TrainingData"]

SAMPLED = 64
"""Samples whose diversity is computed."""
WON, WON_CHECKS = 0.1, 3
"""The critic has won when its loss stays below this for so many checks; a logistic critic that guesses has 2 log 2 = 1.39."""
DIVERSE, FALLEN = 0.5, 0.5
"""Samples that were at least this diverse, compared with the data, have collapsed when they fall below that share of their
best."""
STALLED_CHECKS, STALLED, GAIN = 12, 0.5, 0.02
"""The encoder has stalled when, over so many checks, the second half is no better than the first by this gain, and this share
of the variance of codes is still unexplained."""
JUMP_CHECKS, JUMPED = 4, 8
"""A loss has jumped when it was checked so often before, has lost half of what it had gained, and rose by so many times the
change that it usually makes from check to check."""
HELD_OUT = 512
"""Examples whose codes' cost is computed, of those trained on and of those held out."""
OVERFIT_CHECKS = 8
"""A prior overfits when its cost of held-out codes does not improve for so many checks."""


@dataclass(frozen=True)
class TrainingData:
    """The data that a run is trained on, and the data that is held out from it."""

    train: Source
    held_out: Source


@dataclass
class Diagnosis:
    """What the checks have shown so far at the present level; kept in checkpoints, so that a resumed training warns alike.

    Args:
        level: the level that the other numbers are of.
        won: checks in a row in which the critic had won.
        best_diversity: the largest diversity so far.
        errors: the latest code errors.
        losses: all losses so far.
        warned: warnings that were given at this level.
        best: of a prior, the fewest nats per held-out code.
        best_at: images seen when that was measured.
        no_better: checks since then.
    """

    level: int = -1
    won: int = 0
    best_diversity: float = 0.0
    errors: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    best: float | None = None
    best_at: int = -1
    no_better: int = 0

    def check(
        self, run: Run, data: TrainingData, stage: Stage, terms: Mapping[str, Any], loss: float | None = None
    ) -> tuple[dict[str, float], list[str]]:
        """Check a run, whose EMA is evaluated; nothing is changed.

        Args:
            run: the run.
            data: what it is trained on, and what is held out.
            stage: of the last step.
            terms: means of the latest losses, by "phase/term".
            loss: their sum, where it should fall and means the same throughout; None otherwise.

        Returns:
            Numbers for the log, and new warnings, each given once per level.
        """
        if stage.level != self.level:
            self.level, self.won, self.best_diversity = stage.level, 0, 0.0
            self.errors, self.losses, self.warned = [], [], []
        numbers = _numbers(run, data, stage)
        roles = {phase.role for phase in run.recipe.phases}
        critics = [f"{p.name}/adversarial" for p in run.recipe.phases if p.role == "critic" and p.chance_loss is not None]
        warnings = {
            "critic": self._critic(max(terms[name] for name in critics)) if critics and set(critics) <= set(terms) else "",
            "diversity": self._diversity(numbers.get("check/diversity")) if "critic" in roles else "",
            "inversion": self._inversion(numbers.get("check/code_error")) if "inversion" in roles else "",
            "loss": self._loss(loss) if loss is not None else "",
            "held_out": self._held_out(numbers.get("check/held_out_nats_per_code"), run.images),
        }
        new = {name: text for name, text in warnings.items() if text and name not in self.warned}
        self.warned += new
        return numbers, list(new.values())

    def _critic(self, loss: float) -> str:
        self.won = self.won + 1 if loss < WON else 0
        if self.won < WON_CHECKS:
            return ""
        return (
            f"the critic recognises nearly all generated images (its loss is {loss:.3f}): the generator learns little from it. "
            f"Raise --model.r1, lower --model.learning-rate, or give it more images (--mirror)"
        )

    def _diversity(self, ratio: float | None) -> str:
        if ratio is None:
            return ""
        self.best_diversity = max(self.best_diversity, ratio)
        if self.best_diversity < DIVERSE or ratio > FALLEN * self.best_diversity:
            return ""
        return (
            f"samples lose their diversity: they differ {ratio:.2f} times as much as the data do, after "
            f"{self.best_diversity:.2f} times at their best. Start again with a higher --model.r1, a lower "
            f"--model.learning-rate or a larger batch. Older checkpoints are kept"
        )

    def _inversion(self, error: float | None) -> str:
        self.errors = [*self.errors, error][-STALLED_CHECKS:] if error is not None else self.errors
        half = STALLED_CHECKS // 2
        if len(self.errors) < STALLED_CHECKS or self.errors[-1] < STALLED:
            return ""
        if min(self.errors[half:]) < (1 - GAIN) * min(self.errors[:half]):
            return ""
        return (
            f"the encoder has stopped improving: it leaves {self.errors[-1]:.0%} of the codes' variance unexplained. "
            f"Give it a larger network, or a smaller code (--model.w-dim)"
        )

    def _loss(self, loss: float) -> str:
        before, self.losses = self.losses, [*self.losses, loss]
        if len(before) < JUMP_CHECKS:
            return ""
        least, usual = min(before), median(abs(b - a) for a, b in pairwise(before[-2 * JUMPED :]))
        if loss < (before[0] + least) / 2 or loss - least < JUMPED * usual:
            return ""
        return (
            f"the loss has jumped from {least:.4g} to {loss:.4g}: most of what was learned is lost, as one unusual batch can "
            f"cause. Start again with a lower --model.learning-rate, or --precision float32. Older checkpoints are "
            f"kept"
        )

    def _held_out(self, nats: float | None, images: int) -> str:
        if nats is None:
            return ""
        if self.best is None or nats < self.best:
            self.best, self.best_at, self.no_better = nats, images, 0
            return ""
        self.no_better += 1
        if self.no_better < OVERFIT_CHECKS:
            return ""
        return (
            f"the prior overfits: held-out codes cost {nats:.3f} nats each, after {self.best:.3f} at {self.best_at:,} images, "
            f"whose checkpoint is kept and used. Stop here: more images, a smaller network or more --model.dropout help"
        )


@torch.no_grad()
def _numbers(run: Run, data: TrainingData, stage: Stage) -> dict[str, float]:
    """Compute the numbers that are checked.

    check/diversity: how much samples differ, relative to the data. check/code_error: the share of the variance of sampled
    codes that the encoder does not recover. Of a prior: nats per code, of examples that it is trained on and of held-out ones.
    """
    model = run.ema.model
    view = model.at(stage) if isinstance(model, Grows) else model
    if isinstance(view, HasPrior):
        return {
            "check/trained_nats_per_code": _cost(view, data.train),
            "check/held_out_nats_per_code": _cost(view, data.held_out),
        }
    if not isinstance(view, Samples):
        return {}
    codes = view.sample_codes(SAMPLED, Seeded(run.seed, "diagnosis", device=run.compute.device))
    samples = decode_in_chunks(view, codes)
    real = data.train.take(0, SAMPLED, stage.level).signals
    numbers = {"check/diversity": _spread(samples.flatten(1)) / max(_spread(real.flatten(1)), 1e-12)}
    space = code_space(view)
    if isinstance(view, EncodesPartly) and space.is_real and space.name in view.inferred:
        labels = {name: codes[name] for name in label_sizes(view) if name in codes}
        recovered = encode_in_chunks(view, samples, labels)[space.name].flatten(1)
        sampled = codes[space.name].flatten(1)
        variance = (sampled - sampled.mean(0)).square().mean()
        numbers["check/code_error"] = float((recovered - sampled).square().mean() / variance.clamp_min(1e-12))
    return numbers


def _spread(x: Tensor) -> float:
    """Return the mean distance between two different rows."""
    return float(torch.pdist(x.float()).mean())


def _cost(model: HasPrior, source: Source) -> float:
    """Return nats per code of the first examples of a source, of codes or of signals."""
    batch = source.take(0, min(HELD_OUT, source.size)).to(device_of(model))
    return float(nats_per_code(model, batch).mean())
