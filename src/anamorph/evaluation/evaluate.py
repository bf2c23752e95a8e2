"""A run evaluated: every step that it can have, each kept when it is done, so that what was interrupted goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from anamorph.core.errors import UserError, nearest
from anamorph.evaluation.evaluated_run import EvaluatedRun
from anamorph.evaluation.feature_cache import FeatureCache, StepProgress, no_step_progress
from anamorph.evaluation.latent_steps import latent_steps, likelihood_steps
from anamorph.evaluation.record import Record
from anamorph.evaluation.steps import EvaluationStep, reconstruction_steps, sample_steps

__all__ = ["chosen", "evaluate", "every_step"]


def every_step() -> list[EvaluationStep]:
    return [*sample_steps(), *reconstruction_steps(), *latent_steps(), *likelihood_steps()]


def chosen(names: Sequence[str]) -> list[EvaluationStep]:
    """The steps of these names, or of these groups; all, if none is named.

    Raises: UserError for a name that is neither.
    """
    steps = every_step()
    groups = {step.group.replace(" ", "-") for step in steps}
    for name in names:
        if name not in groups and name not in {step.name for step in steps}:
            raise UserError(f"no measure {name!r}: {nearest(name, [*groups, *(step.name for step in steps)])}")
    return [s for s in steps if not names or s.name in names or s.group.replace(" ", "-") in names]


def evaluate(
    subject: EvaluatedRun,
    steps: Sequence[EvaluationStep] | None = None,
    tell: StepProgress = no_step_progress,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Record, FeatureCache]:
    """What the steps find of a subject; those that were taken before are not taken again, and one that cannot be taken says
    why. Written to RUN/evaluation/evaluation.json after every step."""
    record, looks = Record(subject), FeatureCache(subject, tell)
    looks.sweep()
    steps = chosen(()) if steps is None else steps
    with tell("measures") as progress:
        for done, step in enumerate(steps):
            progress(done, len(steps))
            if not record.has(step.name):
                _take(step, record, looks, say)
    return record, looks


def _take(step: EvaluationStep, record: Record, looks: FeatureCache, say: Callable[[str], None]) -> None:
    began, why = time.monotonic(), step.unsupported(looks.subject)
    if why:
        record.leave(step.name, step.group, why)
        return
    try:
        found = step.run(looks)
    except UserError as error:
        record.leave(step.name, step.group, str(error))
        say(f"{step.name.replace('_', ' ')} is left out: {error}")
        return
    for note in found.notes:
        say(note)
    record.add(step.name, step.group, found, time.monotonic() - began)
