"""Directions for known factors: does going along one change its factor, and what else does it change?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anamorph.core.files import read_json, write_json
from anamorph.core.model import Draws, Encodes, LatentModel, decode_in_parts, require
from anamorph.core.random import Seeded
from anamorph.core.space import Codes, Space
from anamorph.data.images import Images
from anamorph.edit.directions import Classifier, Directions, flat, move, separating
from anamorph.edit.project import nearest_of, project
from anamorph.experiments.cats import READ_WELL, Contestant, Study, contest, grown
from anamorph.figures.matrix import save_matrices
from anamorph.metrics.factors import FactorReader
from anamorph.models.alae import ALAEConfig
from anamorph.models.vae import VAEConfig
from anamorph.runs import load
from anamorph.training.folder import RunFolder
from anamorph.training.machine import Choice

__all__ = ["DIRECTIONS", "direction_study"]

DIRECTIONS = Study(
    {
        "stylealae": grown("stylealae"),
        "stylegan": grown("stylegan"),
        "alae": Contestant("alae", ALAEConfig(w_dim=128, z_dim=128)),
        "vae": Contestant("vae", VAEConfig(z_dim=128, likelihood="gaussian")),
    },
    images=600_000,
)
METHODS: tuple[Classifier, ...] = ("svm", "logistic")
STEPS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
"""Standard deviations of codes that are tried."""
FEWEST = 10
"""A class with fewer codes gets no direction."""
CODES, PROJECTION = 4000, 100


@dataclass(frozen=True)
class _Moved:
    """Of images moved along the directions of one factor, of those that were of another class: the share that became the
    class meant; and by factor, the share whose class changed."""

    became: float
    changed: Mapping[str, float]


def direction_study(
    study: Study, out: Path, choice: Choice, say: Callable[[str], None], stop: Callable[[], bool] = lambda: False
) -> bool:
    """Train every contestant, find a direction for every class of every factor that is read well, and measure, on held-out
    images, what going along it changes; write directions.json, directions.md and directions.png.

    What has been done is not done again. Returns whether it came to its end, or was stopped.
    """
    started = contest(study, out, choice, say, stop)
    if started is None:
        return False
    factors = [name for name, share in started.read.items() if share >= READ_WELL]
    rows: dict[str, Any] = {}
    for name in study.contestants:
        folder = RunFolder(out / name.replace(" ", "-"))
        path = folder.path / "directions.json"
        known = read_json(path) if path.is_file() else {}
        if known.get("images") != folder.seen() or set(known.get("factors", ())) != set(factors):
            say(f"{folder}: looking for directions")
            model = load(folder.path)
            found = _measure(study, model, started.reader, started.train, started.held, factors)
            known = {"images": folder.seen(), "factors": found}
            write_json(path, known)
        rows[name] = known
    write_json(out / "directions.json", rows)
    (out / "directions.md").write_text(_table(rows, factors), encoding="utf-8")
    panels = {name: [[row["factors"][a]["changed"][b] for b in factors] for a in factors] for name, row in rows.items()}
    save_matrices(out / "directions.png", panels, factors, "moved along", "share of images in which this changed")
    say(f"wrote {out / 'directions.md'}")
    return True


@torch.no_grad()
def _measure(
    study: Study, model: LatentModel, reader: FactorReader, train: Images, held: Images, factors: list[str]
) -> dict[str, Any]:
    """By factor: what going along its directions does to held-out images, with the method and the steps that did best on
    images to train on."""
    space = next(space for space in model.spaces if not space.optional)
    vectors, classes = _labelled(model, reader, train, space)
    n = study.n // 10
    trial, final = (_codes(model, source.take(0, n).signals) for source in (train, held))
    found: dict[str, Any] = {}
    for factor in factors:
        if int((classes[factor].bincount() >= FEWEST).sum()) < 2:  # all alike: there is no way to go
            found[factor] = {
                "became": 0.0,
                "changed": dict.fromkeys(classes, 0.0),
                "classes": 0,
                "method": "none",
                "steps": 0.0,
            }
            continue
        best: tuple[float, Directions, dict[str, int], float] | None = None
        for method in METHODS:
            ways, meant = _ways(vectors, classes[factor], space, method)
            for steps in STEPS:
                became = _move(model, reader, trial, ways, meant, factor, steps, space).became
                if best is None or became > best[0]:
                    best = (became, ways, meant, steps)
        assert best is not None
        _, ways, meant, steps = best
        moved = _move(model, reader, final, ways, meant, factor, steps, space)
        found[factor] = {
            "became": moved.became,
            "changed": dict(moved.changed),
            "classes": len(ways),
            "method": ways.method,
            "steps": steps,
        }
    return found


def _labelled(model: LatentModel, reader: FactorReader, train: Images, space: Space) -> tuple[Tensor, dict[str, Tensor]]:
    """Codes as vectors [N, D], and the class of each by factor: of real images, encoded; or, without an encoder, of drawn
    ones, as the classifier reads them (as InterFaceGAN does)."""
    if isinstance(model, Encodes):
        batch = train.take(0, CODES)
        return flat(_codes(model, batch.signals)[space.name], space), dict(batch.labels)
    codes = require(model, Draws, "finding directions").draw(CODES, Seeded(0, "directions"))
    return flat(codes[space.name], space), reader.read(decode_in_parts(model, codes))


def _codes(model: LatentModel, x: Tensor) -> Codes:
    """Of images, encoded; or, without an encoder, projected into w."""
    if isinstance(model, Encodes):
        parts = [model.encode(part) for part in x.split(250)]
    else:
        parts = []
        for part in x.split(50):
            start, law = nearest_of(require(model, Draws, "projection"), part, Seeded(0, "project"))
            parts.append(project(model, part, start, steps=PROJECTION, law=law).codes)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _ways(vectors: Tensor, classes: Tensor, space: Space, method: Classifier) -> tuple[Directions, dict[str, int]]:
    """A direction for each class that has enough codes, and the class that each leads to."""
    counts = classes.bincount()
    enough = counts[classes] >= FEWEST
    vectors, classes = vectors[enough], classes[enough]
    if len(classes.unique()) == 2:  # of two, both are wanted: the one is the other's opposite
        normals, accuracies, (second,) = separating(vectors, classes, method)
        found = [int(classes.min()), second]
        normals, accuracies = torch.cat([-normals, normals]), accuracies.expand(2)
    else:
        normals, accuracies, found = separating(vectors, classes, method)
    scales = ((vectors - vectors.mean(0)) @ normals.T).std(0)
    names = tuple(map(str, found))
    measures = {"balanced accuracy": tuple(accuracies.tolist())}
    return Directions(space.name, names, normals, scales, measures=measures, method=method), dict(
        zip(names, found, strict=True)
    )


def _move(
    model: LatentModel,
    reader: FactorReader,
    codes: Codes,
    ways: Directions,
    meant: Mapping[str, int],
    factor: str,
    steps: float,
    space: Space,
) -> _Moved:
    before = reader.read(decode_in_parts(model, codes))
    became, changed = [], {name: list[Tensor]() for name in before}
    for i, name in enumerate(ways.names):
        others = before[factor] != meant[name]
        if not bool(others.any()):
            continue
        chosen = {key: value[others] for key, value in codes.items()}
        after = reader.read(decode_in_parts(model, move(chosen, ways, i, steps, space)))
        became.append(after[factor] == meant[name])
        for other, classes in after.items():
            changed[other].append(classes != before[other][others])
    return _Moved(_share(became), {name: _share(parts) for name, parts in changed.items()})


def _share(parts: list[Tensor]) -> float:
    return float(torch.cat(parts).float().mean()) if parts else 0.0


def _table(rows: Mapping[str, Any], factors: list[str]) -> str:
    """Markdown: per model and factor, how often the class that was meant came out, and how often another factor changed."""
    lines = [f"| model | images | | {' | '.join(factors)} |", "|---|---|---|" + "---|" * len(factors)]
    for name, row in rows.items():
        told = [row["factors"][f] for f in factors]
        leaks = [
            [share for other, share in found["changed"].items() if other in factors and other != f]
            for f, found in zip(factors, told, strict=True)
        ]
        cells = {
            "**became** the class meant": [f"{found['became']:.0%}" for found in told],
            "each **other** factor changed": [f"{sum(shares) / len(shares):.0%}" for shares in leaks],
            "by": [f"{found['method']}, {found['steps']:g} sd, {found['classes']} classes" for found in told],
        }
        for i, (what, line) in enumerate(cells.items()):
            head = f"{name} | {row['images']:,}" if i == 0 else " | "
            lines.append(f"| {head} | {what} | {' | '.join(line)} |")
    return "\n".join(lines) + "\n"
