"""`anamorph info RUN`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anamorph.cli.options import RunArgument, emit
from anamorph.cli.parsing import parse

if TYPE_CHECKING:
    from anamorph.training.folder import RunFolder

__all__ = ["main"]


@dataclass(frozen=True)
class Info:
    """Describe a run: its model, data, settings and progress."""

    run: RunArgument
    """Folder of the run."""
    json: bool = False
    """Print the result as JSON."""


def _checkpoint(folder: RunFolder) -> dict[str, Any]:
    """Return the checkpoint that other commands use; empty if there is none yet."""
    return folder.checkpoint_in_use() if folder.checkpoint_files() else {}


def main(words: Sequence[str]) -> int:
    options = parse(Info, "info", words)

    from anamorph.catalog import model_entry
    from anamorph.core.config import to_plain
    from anamorph.core.model import capability_names
    from anamorph.runs import build_run_model, settings_of
    from anamorph.training.folder import RunFolder
    from anamorph.training.run import stage_of_checkpoint

    folder = RunFolder(options.run)
    settings = settings_of(folder)
    model, _ = build_run_model(settings)
    entry = model_entry(settings.model)
    progress = folder.progress()
    seen, level = int(progress["images"]), stage_of_checkpoint(progress, settings.schedule).level
    last = folder.metrics()[-1:]
    facts = {
        "model": f"{settings.model}: {entry.title} ({entry.paper})",
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "signal": f"{settings.signal}",
        "spaces": "; ".join(str(space) for space in model.spaces),
        "can": ", ".join(["decode", *capability_names(model)]),
        "grown to": f"{settings.signal.at(level)}" if level else "",
        "codes of": f"{settings.first_stage.model} in {settings.codes_of}" if settings.first_stage else "",
        "source": settings.source or "imported, none yet",
        "seen": f"{seen:,} of {settings.images:,} {settings.signal.noun}s",
        "used": f"{used['which']} checkpoint, at {used['images']:,} {settings.signal.noun}s"
        if (used := _checkpoint(folder))
        else "",
        "machine": str(settings.compute),
        "seed": str(settings.seed),
        "checkpoints": str(len(folder.checkpoint_files())),
        "losses": "  ".join(f"{k} {v:.4g}" for k, v in last[0].items() if "/" in k and isinstance(v, float)) if last else "",
        "settings": "  ".join(f"{name} {value}" for name, value in to_plain(settings.config).items()),
    }
    emit(options.json, "\n".join(f"{name:<12} {value}" for name, value in facts.items() if value), **facts)
    return 0
