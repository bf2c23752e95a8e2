"""Cats composed of known parts: which of them a reconstruction keeps, and whether samples show them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.files import read_json, write_json
from anamorph.core.model import Encodes, HasMapping, HasStyles, LatentModel, Samples, encode_in_chunks, level_of
from anamorph.core.random import Seeded
from anamorph.core.stage import Growing
from anamorph.data.images import Images, images_of
from anamorph.data.open import ReadOptions, open_source
from anamorph.edit.project import CodeStatistics, OptimisedSpace, project
from anamorph.figures.curves import save_curves
from anamorph.figures.grid import Row, save_picture, sheet
from anamorph.metrics.factors import FactorClassifier, agreement, cached_factor_classifier, effective_classes
from anamorph.models.autoencoders.autoencoder import AutoencoderConfig
from anamorph.nn.resample import upsample
from anamorph.presets import preset
from anamorph.runs import load, new_settings, open_training, settings_of
from anamorph.training.autotune import ComputeRequest
from anamorph.training.folder import RunFolder

__all__ = ["READ_WELL", "STUDIES", "Contestant", "Started", "Study", "contest", "factor_study", "folder_of", "grown"]

FREE: tuple[OptimisedSpace, ...] = ("w", "w+")
PROJECTION = 200
"""Steps of a projection."""
READ_WELL = 0.95
"""A factor counts if its reader is right this often on held-out images."""
SHOWN = 8
CREDIT = "Cat parts by David Revoy, CC BY 4.0"


@dataclass(frozen=True)
class Contestant:
    """A model of a study. growing: level by level; None: trained at full size."""

    model: str
    config: Any
    growing: Growing | None = None


@dataclass(frozen=True)
class Study:
    """Models that are trained on the same images, as many of them (images), and then measured alike. size: of the images.
    reader: the images that the classifier of the factors is trained on. n: images and samples that are measured. refined:
    images whose codes are also projected, where a model has an encoder and layers."""

    contestants: Mapping[str, Contestant]
    images: int
    source: str = "avatars-cats"
    size: int = 32
    reader: int = 256_000
    n: int = 2000
    refined: int = 0


def grown(model: str, growing: Growing | None = None, **changes: Any) -> Contestant:
    """A model by its preset for 32 px, with some of its settings changed, or as it grows."""
    found = preset(model, 32)
    return Contestant(model, replace(found.config, **changes), growing or found.growing)


TWO_LEVELS = Growing((128, 64), (1.0, 1.0), initial_images=40_000, fade_images=0, stable_images=80_000)
"""8 and 16 px."""

STUDIES = {
    "cats": Study(
        {
            "stylealae": grown("stylealae"),
            "stylegan": grown("stylegan"),
            "autoencoder": Contestant("autoencoder", AutoencoderConfig(z_dim=128)),
        },
        images=600_000,
        refined=200,
    ),
    "alae-ablation": Study(
        {
            "full": grown("stylealae", TWO_LEVELS),
            "no style encoder": grown("stylealae", TWO_LEVELS, w_from="features"),
            "separate D": grown("stylealae", TWO_LEVELS, critic_input="images"),
            "regression in z": grown("stylealae", TWO_LEVELS, regression="z"),
        },
        images=120_000,
        size=16,
    ),
}
"""By the name of the experiment."""


def factor_study(
    study: Study, out: Path, choice: ComputeRequest, say: Callable[[str], None], stop: Callable[[], bool] = lambda: False
) -> bool:
    """Train every contestant, measure it at each checkpoint that was kept, and write results.json, results.md and pictures.

    What has been done is not done again. Returns whether it came to its end, or was stopped.

    Raises: UserError if the folder holds other runs.
    """
    started = contest(study, out, choice, say, stop)
    if started is None:
        return False
    reader, read, held = started.reader, started.read, started.held
    rows = []
    for name in study.contestants:
        folder = folder_of(out, name)
        refined = _refined(study, folder, reader, held, say)
        rows.append({"name": name, **_measured(study, folder, reader, held, say), "refined": refined})
    facts = {"factors": _facts(study, reader, read, held), "rows": rows}
    write_json(out / "results.json", facts)
    (out / "results.md").write_text(_table(facts), encoding="utf-8")
    _pictures(study, out, held, rows)
    say(f"wrote {out / 'results.md'}")
    return True


def folder_of(out: Path, name: str) -> RunFolder:
    """A contestant's run."""
    return RunFolder(out / name.replace(" ", "-"))


@dataclass(frozen=True)
class Started:
    """What a study measures with. read: how often the classifier of the factors is right on held-out images."""

    train: Images
    held: Images
    reader: FactorClassifier
    read: dict[str, float]


def contest(
    study: Study, out: Path, choice: ComputeRequest, say: Callable[[str], None], stop: Callable[[], bool]
) -> Started | None:
    """Train the classifier and every contestant, as far as that has not been done; None if it was stopped.

    Raises: UserError if the folder holds other runs.
    """
    wanted_size = ReadOptions((study.size, study.size))
    train, held = (images_of(open_source(study.source, wanted_size, split=split)) for split in ("train", "test"))
    wanted = f"{study.reader} images of {study.source} at {study.size}"
    found = cached_factor_classifier(out / "reader.safetensors", wanted, train, held, study.reader, 2 * study.n, say, stop)
    for name, contestant in study.contestants.items():
        if found is None or not _trained(study, contestant, folder_of(out, name), choice, say, stop):
            return None
    return None if found is None else Started(train, held, *found)


def _trained(
    study: Study,
    contestant: Contestant,
    folder: RunFolder,
    choice: ComputeRequest,
    say: Callable[[str], None],
    stop: Callable[[], bool],
) -> bool:
    """Whether a run has come to its end."""
    with folder.locked():
        if not folder.exists:
            new_settings(
                contestant.model,
                study.source,
                study.images,
                config=contestant.config,
                growing=contestant.growing,
                read_options=ReadOptions((study.size, study.size)),
                compute=choice,
            ).write(folder)
        settings = settings_of(folder)
        if (settings.config, settings.growing) != (contestant.config, contestant.growing):
            raise UserError(f"{folder} holds a run with other settings: choose another --out")
        if folder.images_seen() < study.images:
            folder.update_config({"images": study.images})
            training = open_training(folder)
            for status in training.run_to_end(stop):
                if status.picture:
                    say(f"{folder}: {status.images:,} of {study.images:,} images, {status.images_per_second:.0f} images/s")
            return training.run.images >= study.images
    return True


def _measured(
    study: Study, folder: RunFolder, reader: FactorClassifier, held: Images, say: Callable[[str], None]
) -> dict[str, Any]:
    """What the readers find in reconstructions and samples, at every checkpoint that was kept; kept in factors.json."""
    path = folder.path / "factors.json"
    known = {row["images"]: row for row in read_json(path)} if path.is_file() else {}
    for images in folder.checkpoint_images():
        if images not in known:
            known[images] = {"images": images, **_measure(study, load(folder.path, images=images), reader, held)}
            write_json(path, [known[i] for i in sorted(known)])
            say(f"{folder}: measured at {images:,} images")
    log = folder.metrics()
    spent = {name: log[-1].get(name) for name in ("seconds", "cpu_seconds")} if log else {}
    return {"machine": str(settings_of(folder).compute), **spent, "measured": [known[i] for i in sorted(known)]}


@torch.no_grad()
def _measure(study: Study, model: LatentModel, reader: FactorClassifier, held: Images) -> dict[str, Any]:
    found: dict[str, Any] = {}
    level = level_of(model, held.signal)
    if isinstance(model, Encodes):
        originals = held.take(0, study.n, level)
        again = torch.cat([model.decode(model.encode(x)) for x in originals.signals.split(250)])
        found["kept"] = agreement(reader.predict(upsample(again, level)), originals.labels)
        found["mse"] = float((again.clamp(-1, 1) - originals.signals).square().mean())
    if isinstance(model, Samples):
        drawn = [_samples(model, 250, place) for place in range(-(-study.n // 250))]
        samples = torch.cat(drawn)[: study.n]
        found["spread"] = effective_classes(reader.predict(upsample(samples, level)))
    return found


def _refined(
    study: Study, folder: RunFolder, reader: FactorClassifier, held: Images, say: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """What reconstructions keep whose codes were projected into w and into w+, from the encoder's answer; kept in
    projected.json."""
    model, path = load(folder.path), folder.path / "projected.json"
    if not (study.refined and isinstance(model, Encodes) and isinstance(model, HasMapping) and isinstance(model, HasStyles)):
        return {}
    known = read_json(path) if path.is_file() else {}
    if known.get("images") != folder.images_seen():
        level = level_of(model, held.signal)
        originals = held.take(0, study.refined, level)
        start, statistics = (
            encode_in_chunks(model, originals.signals),
            CodeStatistics.of(model.sample_codes(512, Seeded(0, "law"))["w"]),
        )
        found: dict[str, dict[str, float]] = {}
        for free in FREE:
            again = project(model, originals.signals, start, free, PROJECTION, statistics=statistics).images
            found[free] = agreement(reader.predict(upsample(again, level)), originals.labels)
        known = {"images": folder.images_seen(), "kept": found}
        write_json(path, known)
        say(f"{folder}: projected {study.refined} images")
    return dict(known["kept"])


def _samples(model: Samples, n: int, place: int) -> Tensor:
    return model.decode(model.sample_codes(n, Seeded(0, "study", place)))


def _facts(study: Study, reader: FactorClassifier, read: Mapping[str, float], held: Images) -> dict[str, Any]:
    """By factor: its classes, how well it is read, what always guessing the commonest gives, and how real images spread."""
    batch = held.take(0, study.n)
    spread = effective_classes(reader.predict(batch.signals))
    classes = {label.name: len(label.classes) for label in held.labels}
    return {
        name: {
            "classes": classes[name],
            "read": read[name],
            "chance": float(labels.bincount().max() / len(labels)),
            "spread": spread[name],
        }
        for name, labels in batch.labels.items()
        if name in read
    }


def _table(facts: Mapping[str, Any]) -> str:
    """Markdown: per factor, the share of reconstructions that keep it and how far the samples spread."""
    factors = facts["factors"]
    counting = [name for name, fact in factors.items() if fact["read"] >= READ_WELL]
    head = " | ".join(counting)
    lines = [f"| | images | hours | {head} |", "|---|---|---|" + "---|" * len(counting)]

    def line(name: str, seen: str, hours: str, cells: list[str]) -> None:
        lines.append(f"| {name} | {seen} | {hours} | {' | '.join(cells)} |")

    line("classifier on held-out images", "", "", [f"{factors[f]['read']:.1%}" for f in counting])
    line("**kept** by guessing the commonest", "", "", [f"{factors[f]['chance']:.1%}" for f in counting])
    ends = [(row, row["measured"][-1]) for row in facts["rows"]]
    for row, end in ends:
        if "kept" in end:
            line(f"**kept** by {row['name']}", f"{end['images']:,}", _hours(row), [f"{end['kept'][f]:.1%}" for f in counting])
        for free, kept in row["refined"].items():
            line(f"{row['name']}, projected into {free}", f"{end['images']:,}", "", [f"{kept[f]:.1%}" for f in counting])
    line("**spread** of real images", "", "", [f"{factors[f]['spread']:.1f} of {factors[f]['classes']}" for f in counting])
    for row, end in ends:
        if "spread" in end:
            line(
                f"**spread** of {row['name']}", f"{end['images']:,}", _hours(row), [f"{end['spread'][f]:.1f}" for f in counting]
            )
    left = [f"{name} ({fact['read']:.1%})" for name, fact in factors.items() if name not in counting]
    if left:
        lines += ["", f"Not counted, since the classifier does not read them well enough: {', '.join(left)}."]
    return "\n".join(lines) + "\n"


def _hours(row: Mapping[str, Any]) -> str:
    return f"{row['cpu_seconds'] / 3600:.1f} (CPU)" if row.get("cpu_seconds") else ""


@torch.no_grad()
def _pictures(study: Study, out: Path, held: Images, rows: list[dict[str, Any]]) -> None:
    """cats.png: the first held-out images, reconstructions and samples of all models; kept.png: the shares over training."""
    lines = [Row("held out", held.take(0, SHOWN).signals)]
    drawn = []
    for name in study.contestants:
        model = load(folder_of(out, name).path)
        level = level_of(model, held.signal)
        if isinstance(model, Encodes):
            again = model.decode(model.encode(held.take(0, SHOWN, level).signals))
            lines.append(Row(f"{name}: reconstructions", upsample(again, level)))
        if isinstance(model, Samples):
            drawn.append(Row(f"{name}: samples", upsample(_samples(model, SHOWN, 0), level)))
    save_picture(out / "cats.png", sheet([*lines, *drawn], f"The first {SHOWN}, unpicked. {CREDIT}"))
    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for row in rows:
        for kind in ("kept", "spread"):
            points = [m for m in row["measured"] if kind in m]
            for factor in points[0][kind] if points else ():
                curve = ([float(m["images"]) for m in points], [m[kind][factor] for m in points])
                panels.setdefault(f"{row['name']}: {kind}", {})[factor] = curve
    save_curves(out / "kept.png", panels)
