"""Runs that are trained quickly, on this processor as it is: nothing is timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anamorph.data.open import ReadOptions
from anamorph.runs import new_settings, open_training
from anamorph.training.autotune import ComputeRequest
from anamorph.training.folder import RunFolder

HERE = ComputeRequest("cpu", "float32", 1, False)


def trained(
    path: Path,
    model: str,
    images: int,
    config: Any,
    source: str = "digits",
    size: tuple[int, int] | None = None,
    codes_of: str = "",
    batch: int = 32,
) -> Path:
    """A run in a folder, as far as so many images; one that is there goes on."""
    folder = RunFolder(path)
    if not folder.exists:
        told: dict[str, Any] = {"config": config, "read_options": ReadOptions(size), "batch": batch, "codes_of": codes_of}
        new_settings(model, source, images, compute=HERE, pictures=(), **told).write(folder)
    folder.update_config({"images": images})
    for _ in open_training(folder).run_to_end():
        pass
    return path
