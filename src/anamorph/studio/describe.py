"""What a model is, as the page needs to know it: all that is shown follows from this, and nothing from a model's name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from anamorph.catalog import model_entry
from anamorph.core.errors import UserError
from anamorph.core.labels import label_sizes
from anamorph.core.model import Encodes, HasMapping, HasNoise, HasPrior, LatentModel, Samples, capability_names, code_space
from anamorph.core.signal import Image
from anamorph.core.space import Space
from anamorph.edit.layers import layer_groups
from anamorph.run_data import class_names
from anamorph.studio.bench import Bench
from anamorph.studio.direction_sets import DirectionSets
from anamorph.studio.phases import phases_of
from anamorph.training.folder import RunFolder

__all__ = ["describe", "direction_set_facts", "panels_of"]

MOST_CODES = 1024
"""A palette with more codes than this is not shown."""


def describe(bench: Bench) -> dict[str, Any]:
    """Facts of a loaded run."""
    model, settings, folder = bench.model, bench.settings, RunFolder(bench.run)
    known = model_entry(settings.model)
    space = code_space(model)
    return {
        "title": known.title,
        "paper": known.paper,
        "model": settings.model,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seen": folder.images_seen(),
        "total": settings.images,
        "signal": _signal(model),
        "spaces": [asdict(s) for s in model.spaces],
        "capabilities": capability_names(model),
        "layers": _layers(space, model),
        "grid": _grid(model),
        "noise": isinstance(model, HasNoise) and bool(model.fixed_noise),
        "w_mean": isinstance(model, HasMapping),
        "temperature": isinstance(model, HasPrior),
        "discrete": space.num_codes is not None,
        "classes": _named(bench, model.classes),
        "decoder_labels": _named(bench, label_sizes(model)),
        "directions": bench.direction_sets.names(),
        "data": _data(bench),
        "phases": phases_of(folder, folder.metrics()),
        "panels": panels_of(model, _data(bench)),
    }


def _named(bench: Bench, counts: Mapping[str, int]) -> dict[str, list[str]]:
    """The classes of labels, by name."""
    return {name: list(class_names(bench.run, name)) or [str(i) for i in range(n)] for name, n in counts.items()}


def _signal(model: LatentModel) -> dict[str, Any]:
    signal = model.signal
    kind = "image" if isinstance(signal, Image) else "audio"
    return {"kind": kind, "noun": signal.noun, "text": str(signal), **asdict(signal)}


def _layers(space: Space, model: LatentModel) -> dict[str, Any] | None:
    """How many layers, their names by range, and the side of the feature maps that each works on."""
    if not space.layered:
        return None
    count = space.shape[0]
    longest = max(model.signal.shape[1:])
    blocks = max(1, count // 2)
    return {
        "count": count,
        "groups": {name: list(layers) for name, layers in layer_groups(count).items() if layers},
        "sides": [int(longest) >> (blocks - 1 - layer // 2) for layer in range(count)],
    }


def _grid(model: LatentModel) -> list[dict[str, Any]] | None:
    """The grids of codes, the finest first; None if the model has none, or other spaces besides."""
    needed = [s for s in model.spaces if not s.optional]
    if not all(s.num_codes is not None and len(s.shape) == 3 for s in needed):
        return None
    finest = sorted(needed, key=lambda s: math.prod(s.shape[-2:]), reverse=True)
    return [
        {"space": s.name, "maps": s.shape[0], "rows": s.shape[1], "columns": s.shape[2], "num_codes": s.num_codes}
        for s in finest
    ]


def _data(bench: Bench) -> dict[str, Any] | None:
    """How many images data:N can name, and their labels; None if they are not there."""
    try:
        return {"size": bench.data.size, "labels": {label.name: list(label.classes) for label in bench.data.labels}}
    except (UserError, OSError):
        return None


def panels_of(model: LatentModel, data: dict[str, Any] | None) -> list[str]:
    """The panels that a model can fill."""
    real = code_space(model).num_codes is None
    grid = _grid(model)
    starts = isinstance(model, Samples | Encodes)
    encodes = isinstance(model, Encodes)
    there = {
        "wall": isinstance(model, Samples),
        "reconstruct": encodes,
        "edit": real and isinstance(model, Samples),
        "mix": real and starts,
        "interpolate": real and starts,
        "codes": grid is not None and starts and all(g["num_codes"] <= MOST_CODES for g in grid),
        "map": real and encodes and data is not None,
        "training": True,
        "compare": starts,
    }
    return [name for name, shown in there.items() if shown]


def direction_set_facts(ways: DirectionSets, name: str) -> dict[str, Any]:
    """The directions of a set: their names, measures, and the layers that they act on."""
    found = ways.of(name)
    return {
        "set": name,
        "names": list(found.names),
        "method": found.method,
        "measures": {what: list(values) for what, values in found.measures.items()},
        "layers": None if found.layers is None else list(found.layers),
    }
