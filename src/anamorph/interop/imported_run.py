"""Foreign weights as an ordinary run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anamorph.core.errors import UserError
from anamorph.core.model import LatentModel
from anamorph.core.signal import Image
from anamorph.runs import Settings, build_run_model, settings_of
from anamorph.training.autotune import cpu_count
from anamorph.training.folder import RunFolder
from anamorph.training.run import ComputeSettings, Run

__all__ = ["Imported", "write_run"]


@dataclass(frozen=True)
class Imported:
    """A model that others have trained. model: its trained weights. average: those that it is used with.
    level: how many of its finest levels have not been trained. notes: what its user should know. codes_of: the run whose codes
    a prior is over."""

    name: str
    image: Image
    config: Any
    model: LatentModel
    average: LatentModel
    level: int = 0
    notes: tuple[str, ...] = ()
    codes_of: str = ""


def write_run(imported: Imported, out: Path, raw: bool = False) -> Settings:
    """Write a run that samples, reconstructs and edits, and that can be trained further on images of one's own.

    raw: use the trained weights themselves, not their average.
    Raises: UserError if there is a run already, or a weight is not finite.
    """
    settings = Settings(
        model=imported.name,
        config=imported.config,
        source="",
        signal=imported.image,
        fingerprint="",
        compute=ComputeSettings(threads=cpu_count()),
        images=0,
        batch=16,
        level=imported.level,
        codes_of=str(Path(imported.codes_of).absolute()) if imported.codes_of else "",
        first_stage=settings_of(RunFolder(imported.codes_of)) if imported.codes_of else None,
    )
    folder = RunFolder(out)
    with folder.locked():
        if folder.exists:
            raise UserError(f"{folder} already holds a run: choose another --out")
        model, recipe = build_run_model(settings)
        run = Run(model, recipe, settings.schedule, settings.seed, settings.compute)
        run.model.load_state_dict(imported.model.state_dict())
        run.ema.model.load_state_dict((imported.model if raw else imported.average).state_dict())
        folder.save(run, {}, keep=True)
        settings.write(folder)  # last: until then, there is no run
    return settings
