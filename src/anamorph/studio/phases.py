"""The phases of a run's training: the name and role of each, and the terms that it logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from anamorph.core.recipe import PhaseRole
from anamorph.runs import build_run_model
from anamorph.settings import settings_of
from anamorph.training.folder import RunFolder

__all__ = ["phases_of"]


def phases_of(folder: RunFolder, lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the phases of a run's recipe, in order: `name`, `role`, and `terms`, the full names of what it has logged.

    Names and roles are those of the model's present recipe, so runs of any format have them.

    Args:
        folder: of the run.
        lines: of its log.

    Raises:
        UserError: if this is no run, or its settings cannot be read.
    """
    logged = dict.fromkeys(name for line in lines for name in line)
    roles = _roles(folder.path, (folder.path / "config.json").read_bytes() if folder.exists else b"")
    return [
        {"name": name, "role": role, "terms": [term for term in logged if term.startswith(f"{name}/")]} for name, role in roles
    ]


@lru_cache(maxsize=64)
def _roles(path: Path, config: bytes) -> tuple[tuple[str, PhaseRole], ...]:
    """Return the name and role of each phase. The model is built without memory for its weights.

    Args:
        path: of the run.
        config: content of its config.json, so that other settings are not answered from the cache.
    """
    settings = settings_of(RunFolder(path))
    with torch.device("meta"):
        _, recipe = build_run_model(replace(settings, compute=replace(settings.compute, device="meta")))
    return tuple((phase.name, phase.role) for phase in recipe.phases)
