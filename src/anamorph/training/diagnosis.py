"""Is a training going well? Some numbers at regular intervals, and a warning, with what to do, when they say it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch import Tensor

from anamorph.core.model import Encodes, Grows, HasPrior, Samples, chunk_size, decode_in_chunks, nats_per_code
from anamorph.core.random import Seeded
from anamorph.core.signal import Source
from anamorph.core.stage import Stage
from anamorph.training.run import Run

__all__ = ["Diagnosis", "TrainingData"]

DRAWN = 64
WON, WON_CHECKS = 0.1, 3
"""D has won when its logistic loss (2 log 2 = 1.39 for guessing) stays below this for so many checks."""
DIVERSE, FALLEN = 0.5, 0.5
"""Samples that have been this diverse, compared with the data, have lost it when they fall below that share of their best."""
STALLED_CHECKS, STALLED, GAIN = 12, 0.5, 0.02
"""E has stalled when over so many checks the second half is no better, by this gain, than the first, and leaves this share of
the variance of codes unexplained."""
JUMP_CHECKS, JUMPED = 4, 8
"""A loss has jumped when it was seen so often before, has lost half of what it had gained, and rose by so many times what it
changes by from check to check."""

HELD = 512
"""Examples whose codes are scored, of those trained on and of those held out."""
OVERFIT_CHECKS = 8
"""A law of codes has begun to learn them by heart when it gets no better on held-out ones for so many checks."""


@dataclass(frozen=True)
class TrainingData:
    """What a run is trained on, and what it is not."""

    train: Source
    held_out: Source


@dataclass
class Diagnosis:
    """What has been seen so far at the present level; kept in checkpoints, so that a resumed training warns alike.

    best, best_at: of a law of codes, the fewest nats per held-out code, and how many images had been seen then.
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
        self, run: Run, seen: TrainingData, stage: Stage, terms: Mapping[str, Any], loss: float | None = None
    ) -> tuple[dict[str, float], list[str]]:
        """Numbers for the log, and warnings, each given once per level.

        terms: the means of the losses of late. loss: their sum, where it is to become small and means the same all the time.
        The average of the weights is looked at, and nothing is changed.
        """
        if stage.level != self.level:
            self.level, self.won, self.best_diversity = stage.level, 0, 0.0
            self.errors, self.losses, self.warned = [], [], []
        numbers = _numbers(run, seen, stage)
        logistic = "critic/adversarial" in terms and "critic/slope" not in terms  # a Wasserstein loss has no bound
        warnings = {
            "critic": self._critic(terms["critic/adversarial"]) if logistic else "",
            "diversity": self._diversity(numbers.get("check/diversity")) if "critic/adversarial" in terms else "",
            "reciprocity": self._reciprocity(numbers.get("check/code_error")) if "reciprocity/latent" in terms else "",
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
            f"the discriminator tells nearly all images apart (its loss is {loss:.3f}): the generator learns little from it. "
            f"Raise --model.r1, lower --model.learning-rate, or give it more images (--mirror)"
        )

    def _diversity(self, ratio: float | None) -> str:
        if ratio is None:
            return ""
        self.best_diversity = max(self.best_diversity, ratio)
        if self.best_diversity < DIVERSE or ratio > FALLEN * self.best_diversity:
            return ""
        return (
            f"samples become alike: they differ {ratio:.2f} times as much as the data do, and did {self.best_diversity:.2f} "
            f"times. Start again with a higher --model.r1, a lower --model.learning-rate or a larger batch. Older "
            f"checkpoints are kept"
        )

    def _reciprocity(self, error: float | None) -> str:
        self.errors = [*self.errors, error][-STALLED_CHECKS:] if error is not None else self.errors
        half = STALLED_CHECKS // 2
        if len(self.errors) < STALLED_CHECKS or self.errors[-1] < STALLED:
            return ""
        if min(self.errors[half:]) < (1 - GAIN) * min(self.errors[:half]):
            return ""
        return (
            f"the encoder has stopped learning to find codes again: it misses {self.errors[-1]:.0%} of their variance. "
            f"Give it a larger network, or fewer features to find (--model.w-dim)"
        )

    def _loss(self, loss: float) -> str:
        before, self.losses = self.losses, [*self.losses, loss]
        if len(before) < JUMP_CHECKS:
            return ""
        least, usual = min(before), median(abs(b - a) for a, b in pairwise(before[-2 * JUMPED :]))
        if loss < (before[0] + least) / 2 or loss - least < JUMPED * usual:
            return ""
        return (
            f"the loss has jumped to {loss:.4g} and was {least:.4g}: most of what was learned is lost, which one batch unlike "
            f"the others can do. Start again with a lower --model.learning-rate, or --precision float32. Older checkpoints are "
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
            f"the codes that it is trained on are learned by heart: held-out ones cost {nats:.3f} nats each, and cost "
            f"{self.best:.3f} at {self.best_at:,} images, which is kept and used. Stop here: more images, a smaller net or "
            f"more --model.dropout help"
        )


@torch.no_grad()
def _numbers(run: Run, seen: TrainingData, stage: Stage) -> dict[str, float]:
    """diversity: how much samples differ, compared with the data. code_error: the share of codes' variance that E misses.
    Of a law of codes: nats per code, of examples that it is trained on and of held-out ones."""
    model = run.ema.model
    view = model.at(stage) if isinstance(model, Grows) else model
    if isinstance(view, HasPrior):
        return {
            "check/trained_nats_per_code": _cost(view, seen.train),
            "check/held_out_nats_per_code": _cost(view, seen.held_out),
        }
    if not isinstance(view, Samples):
        return {}
    codes = view.sample_codes(DRAWN, Seeded(run.seed, "diagnosis", device=run.compute.device))
    samples = decode_in_chunks(view, codes)
    real = seen.train.take(0, DRAWN, stage.level).signals
    found = {"check/diversity": _spread(samples.flatten(1)) / max(_spread(real.flatten(1)), 1e-12)}
    if isinstance(view, Encodes):
        space = view.spaces[0].name
        again = torch.cat([view.encode(part)[space] for part in samples.split(chunk_size(view))]).flatten(1)
        wanted = codes[space].flatten(1)
        variance = (wanted - wanted.mean(0)).square().mean()
        found["check/code_error"] = float((again - wanted).square().mean() / variance.clamp_min(1e-12))
    return found


def _spread(x: Tensor) -> float:
    """The mean distance between two different rows."""
    return float(torch.pdist(x.float()).mean())


def _cost(model: HasPrior, source: Source) -> float:
    """Nats per code of the first examples of a source, of codes or of signals."""
    device = next(model.parameters()).device
    return float(nats_per_code(model, source.take(0, min(HELD, source.size)).to(device)).mean())
