"""Evaluate a run step by step. Each result is saved at once, so that an interrupted evaluation continues."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from anamorph.core.errors import UserError, nearest
from anamorph.evaluation.evaluated_run import EvaluatedRun
from anamorph.evaluation.feature_cache import FeatureCache, StepProgress, no_step_progress
from anamorph.evaluation.latent_steps import latent_steps, likelihood_steps
from anamorph.evaluation.record import Record
from anamorph.evaluation.steps import EvaluationStep, reconstruction_steps, sample_steps

__all__ = ["all_steps", "evaluate", "select_steps"]


def all_steps() -> list[EvaluationStep]:
    """Return every step, in the order of the report."""
    return [*sample_steps(), *reconstruction_steps(), *latent_steps(), *likelihood_steps()]


def select_steps(names: Sequence[str]) -> list[EvaluationStep]:
    """Return the steps of these names or groups; all steps, if none is named.

    Raises:
        UserError: for a name that is neither a step nor a group.
    """
    steps = all_steps()
    groups = {step.group.replace(" ", "-") for step in steps}
    for name in names:
        if name not in groups and name not in {step.name for step in steps}:
            raise UserError(f"no measure {name!r}: {nearest(name, [*groups, *(step.name for step in steps)])}")
    return [s for s in steps if not names or s.name in names or s.group.replace(" ", "-") in names]


def evaluate(
    subject: EvaluatedRun,
    steps: Sequence[EvaluationStep] | None = None,
    progress: StepProgress = no_step_progress,
    note: Callable[[str], None] = lambda text: None,
) -> tuple[Record, FeatureCache]:
    """Measure a run step by step. Results of an earlier call are reused; a step that cannot be taken is kept with its reason.

    RUN/evaluation/evaluation.json is written after every step.
    """
    record, cache = Record(subject), FeatureCache(subject, progress)
    cache.remove_stale()
    steps = select_steps(()) if steps is None else steps
    with progress("measures") as count:
        for done, step in enumerate(steps):
            count(done, len(steps))
            if not record.has(step.name):
                _measure(step, record, cache, note)
    return record, cache


def _measure(step: EvaluationStep, record: Record, cache: FeatureCache, note: Callable[[str], None]) -> None:
    start, reason = time.monotonic(), step.unsupported(cache.subject)
    if reason:
        record.leave(step.name, step.group, reason)
        return
    try:
        results = step.run(cache)
    except UserError as error:
        record.leave(step.name, step.group, str(error))
        note(f"{step.name.replace('_', ' ')} was not measured: {error}")
        return
    for text in results.notes:
        note(text)
    record.add(step.name, step.group, results, time.monotonic() - start)
