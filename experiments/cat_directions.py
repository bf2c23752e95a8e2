"""Directions for known factors: does going along one change its factor, and what else does it change?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anamorph.core.files import read_json, write_json
from anamorph.core.model import Encodes, LatentModel, Samples, code_space, decode_in_chunks, encode_in_chunks, level_of, require
from anamorph.core.random import Seeded
from anamorph.core.signal import Image
from anamorph.core.space import Codes, Space
from anamorph.data.images import Images
from anamorph.edit.directions import FEWEST, Classifier, Directions, deviations, flat, move, separating
from anamorph.edit.project import nearest_samples, project
from anamorph.figures.matrix import save_matrices
from anamorph.metrics.factors import FactorClassifier
from anamorph.models.adversarial_autoencoders.alae import ALAEConfig
from anamorph.models.autoencoders.vae import VAEConfig
from anamorph.nn.resample import upsample
from anamorph.runs import load
from anamorph.training.autotune import ComputeRequest
from experiments.cats import READ_WELL, Contestant, Study, contest, folder_of, grown

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
METHODS: tuple[Classifier, ...] = ("logistic", "means")
STEPS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Standard deviations of codes that are tried."""
CODES, PROJECTION = 4000, 100


@dataclass(frozen=True)
class _Moved:
    """Of images moved along the directions of one factor, of those that were of another class: the share that became the
    class meant; and by factor, the share whose class changed."""

    became: float
    changed: Mapping[str, float]

    def worth(self, factor: str) -> float:
        """What was meant, less what leaked: went so far that all changes, nothing is gained."""
        others = [share for name, share in self.changed.items() if name != factor]
        return self.became - sum(others) / max(len(others), 1)


def direction_study(
    study: Study, out: Path, choice: ComputeRequest, say: Callable[[str], None], stop: Callable[[], bool] = lambda: False
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
        folder = folder_of(out, name)
        path = folder.path / "directions.json"
        known = read_json(path) if path.is_file() else {}
        if known.get("images") != folder.images_seen() or set(known.get("factors", ())) != set(factors):
            say(f"{folder}: looking for directions")
            model = load(folder.path)
            subject = _Subject(started.held.signal, model, started.reader)
            found = _measure(subject, started.train, started.held, study.n // 10, factors)
            known = {"images": folder.images_seen(), "factors": found}
            write_json(path, known)
        rows[name] = known
    write_json(out / "directions.json", rows)
    (out / "directions.md").write_text(_table(rows, factors), encoding="utf-8")
    panels = {name: [[row["factors"][a]["changed"][b] for b in factors] for a in factors] for name, row in rows.items()}
    save_matrices(out / "directions.png", panels, factors, "moved along", "share of images in which this changed")
    say(f"wrote {out / 'directions.md'}")
    return True


class _Subject:
    """A model, at the level that it has grown to, and the classifier that reads its images."""

    def __init__(self, full: Image, model: LatentModel, reader: FactorClassifier) -> None:
        self.model, self.reader, self.space, self.level = model, reader, code_space(model), level_of(model, full)

    def read(self, codes: Codes) -> dict[str, Tensor]:
        """The class of each factor that the images of codes show."""
        return self.reader.predict(upsample(decode_in_chunks(self.model, codes), self.level))

    def labelled(self, train: Images) -> tuple[Tensor, dict[str, Tensor]]:
        """Codes as vectors [N, D], and the class of each by factor: of real images, encoded; or, without an encoder, of drawn
        ones, as the classifier reads them (as InterFaceGAN does)."""
        if isinstance(self.model, Encodes):
            batch = train.take(0, CODES, self.level)
            return flat(self.codes_of(batch.signals)[self.space.name], self.space), dict(batch.labels)
        codes = require(self.model, Samples, "finding directions").sample_codes(CODES, Seeded(0, "directions"))
        return flat(codes[self.space.name], self.space), self.read(codes)

    def codes_of(self, x: Tensor) -> Codes:
        """Of images, encoded; or, without an encoder, projected into w."""
        if isinstance(self.model, Encodes):
            return encode_in_chunks(self.model, x)
        parts = []
        for part in x.split(50):
            start, statistics = nearest_samples(require(self.model, Samples, "projection"), part, Seeded(0, "project"))
            parts.append(project(self.model, part, start, steps=PROJECTION, statistics=statistics).codes)
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def move(self, codes: Codes, before: Mapping[str, Tensor], way: _Way, steps: float) -> _Moved:
        """What going along the directions of a factor does to codes, whose images show `before`."""
        became, changed = [], {name: list[Tensor]() for name in before}
        for i, meant in enumerate(way.classes):
            others = before[way.factor] != meant
            if not bool(others.any()):
                continue
            chosen = {key: value[others] for key, value in codes.items()}
            after = self.read(move(chosen, way.directions, i, steps, self.space))
            became.append(after[way.factor] == meant)
            for other, classes in after.items():
                changed[other].append(classes != before[other][others])
        return _Moved(_share(became), {name: _share(parts) for name, parts in changed.items()})


@dataclass(frozen=True)
class _Way:
    """The directions of a factor, and the class that each leads to."""

    factor: str
    directions: Directions
    classes: list[int]

    @staticmethod
    def of(factor: str, vectors: Tensor, classes: Tensor, space: Space, method: Classifier) -> _Way:
        """Of codes as vectors [N, D] and their classes [N]."""
        normals, _, found = separating(vectors, classes, method)
        if len(found) == 1:  # of two, both are wanted: the one is the other's opposite
            other = next(c for c in (classes.bincount() >= FEWEST).nonzero().flatten().tolist() if c != found[0])
            normals, found = torch.cat([-normals, normals]), [other, *found]
        names = tuple(map(str, found))
        return _Way(factor, Directions(space.name, names, normals, deviations(vectors, normals), method=method), found)


@torch.no_grad()
def _measure(subject: _Subject, train: Images, held: Images, n: int, factors: list[str]) -> dict[str, Any]:
    """By factor: what going along its directions does to n held-out images, with the method and the steps that were worth most
    on n images to train on."""
    vectors, classes = subject.labelled(train)
    trial, final = (subject.codes_of(source.take(0, n, subject.level).signals) for source in (train, held))
    seen, shown = subject.read(trial), subject.read(final)
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
        ways = [_Way.of(factor, vectors, classes[factor], subject.space, method) for method in METHODS]
        tried = [(subject.move(trial, seen, way, steps).worth(factor), way, steps) for way in ways for steps in STEPS]
        _, way, steps = max(tried, key=lambda trial: trial[0])
        moved = subject.move(final, shown, way, steps)
        found[factor] = {
            "became": moved.became,
            "changed": dict(moved.changed),
            "classes": len(way.classes),
            "method": way.directions.method,
            "steps": steps,
        }
    return found


def _share(parts: list[Tensor]) -> float:
    return float(torch.cat(parts).float().mean()) if parts else 0.0


def _table(rows: Mapping[str, Any], factors: list[str]) -> str:
    """Markdown: per model and factor, how often the class that was meant came out, and how often another factor changed."""
    lines = [f"| model | images | | {' | '.join(factors)} |", "|---|---|---|" + "---|" * len(factors)]
    for name, row in rows.items():
        rows_of = [row["factors"][f] for f in factors]
        leaks = [
            [share for other, share in found["changed"].items() if other in factors and other != f]
            for f, found in zip(factors, rows_of, strict=True)
        ]
        cells = {
            "**became** the class meant": [f"{found['became']:.0%}" for found in rows_of],
            "each **other** factor changed": [f"{sum(shares) / max(len(shares), 1):.0%}" for shares in leaks],
            "by": [f"{found['method']}, {found['steps']:g} sd, {found['classes']} classes" for found in rows_of],
        }
        for i, (what, line) in enumerate(cells.items()):
            head = f"{name} | {row['images']:,}" if i == 0 else " | "
            lines.append(f"| {head} | {what} | {' | '.join(line)} |")
    return "\n".join(lines) + "\n"
