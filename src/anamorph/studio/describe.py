"""A description of a run's model for the page. All that the page offers follows from it, and nothing from a model's name."""

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

__all__ = ["describe", "describe_directions", "panels_of"]

MOST_CODES = 1024
"""The most codes of a space that the panel of codes shows."""


def describe(bench: Bench) -> dict[str, Any]:
    """Describe a loaded run, as JSON values."""
    model, settings, folder = bench.model, bench.settings, RunFolder(bench.run)
    entry = model_entry(settings.model)
    space = code_space(model)
    return {
        "title": entry.title,
        "paper": entry.paper,
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
        "classes": _class_names(bench, model.classes),
        "decoder_labels": _class_names(bench, label_sizes(model)),
        "directions": bench.direction_sets.names(),
        "data": _data(bench),
        "phases": phases_of(folder, folder.metrics()),
        "panels": panels_of(model, _data(bench)),
    }


def _class_names(bench: Bench, counts: Mapping[str, int]) -> dict[str, list[str]]:
    """Return the class names of labels; numbers where they have none."""
    return {name: list(class_names(bench.run, name)) or [str(i) for i in range(n)] for name, n in counts.items()}


def _signal(model: LatentModel) -> dict[str, Any]:
    """Return the kind and shape of the model's signals."""
    signal = model.signal
    kind = "image" if isinstance(signal, Image) else "audio"
    return {"kind": kind, "noun": signal.noun, "text": str(signal), **asdict(signal)}


def _layers(space: Space, model: LatentModel) -> dict[str, Any] | None:
    """Return the number of layers, the named ranges of them, and the side in pixels of each one's feature maps."""
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
    """Return the grids of codes, the finest first; None if any space that decoding needs is no grid."""
    required = [s for s in model.spaces if not s.optional]
    if not all(s.num_codes is not None and len(s.shape) == 3 for s in required):
        return None
    grids = sorted(required, key=lambda s: math.prod(s.shape[-2:]), reverse=True)
    return [
        {"space": s.name, "maps": s.shape[0], "rows": s.shape[1], "columns": s.shape[2], "num_codes": s.num_codes}
        for s in grids
    ]


def _data(bench: Bench) -> dict[str, Any] | None:
    """Return the number of held-out examples and their labels; None if the data cannot be directions."""
    try:
        return {"size": bench.data.size, "labels": {label.name: list(label.classes) for label in bench.data.labels}}
    except (UserError, OSError):
        return None


def panels_of(model: LatentModel, data: dict[str, Any] | None) -> list[str]:
    """Return the names of the panels that a model has the capabilities for."""
    real = code_space(model).num_codes is None
    grid = _grid(model)
    has_codes = isinstance(model, Samples | Encodes)
    encodes = isinstance(model, Encodes)
    offered = {
        "wall": isinstance(model, Samples),
        "reconstruct": encodes,
        "edit": real and isinstance(model, Samples),
        "mix": real and has_codes,
        "interpolate": real and has_codes,
        "codes": grid is not None and has_codes and all(g["num_codes"] <= MOST_CODES for g in grid),
        "map": real and encodes and data is not None,
        "training": True,
        "compare": has_codes,
    }
    return [name for name, possible in offered.items() if possible]


def describe_directions(sets: DirectionSets, name: str) -> dict[str, Any]:
    """Describe a set of directions: their names, method and measures, and the layers that they act on."""
    directions = sets.of(name)
    return {
        "set": name,
        "names": list(directions.names),
        "method": directions.method,
        "measures": {measure: list(values) for measure, values in directions.measures.items()},
        "layers": None if directions.layers is None else list(directions.layers),
    }
