"""All models on the same images, with the same minutes of one processor core each, measured by the same yardsticks."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import torch

from anamorph.catalog import config_class
from anamorph.core.files import read_json, write_json
from anamorph.core.model import Encodes, Samples
from anamorph.core.stage import Growing
from anamorph.data.open import ReadOptions
from anamorph.evaluation.compare import Column, Comparison, compare_columns
from anamorph.evaluation.comparison import markdown, write_comparison
from anamorph.evaluation.evaluate import evaluate
from anamorph.evaluation.evaluated_run import evaluated_run, open_for_evaluation
from anamorph.evaluation.metric_names import number
from anamorph.evaluation.networks import FeatureNetworks, choose_networks
from anamorph.evaluation.report import write_report
from anamorph.figures.grid import Row, save_picture, sheet
from anamorph.models.autoencoders.autoencoder import AutoencoderConfig
from anamorph.models.autoencoders.vae import VAEConfig
from anamorph.models.autoregressive.pixelcnn import PixelCNNConfig
from anamorph.models.autoregressive.pixelsnail import PixelSNAILConfig
from anamorph.models.quantized.vqvae import VQVAEConfig
from anamorph.models.quantized.vqvae2 import VQVAE2Config
from anamorph.presets import preset
from anamorph.runs import new_settings, open_training
from anamorph.training.autotune import ComputeRequest, apply_compute_settings
from anamorph.training.folder import RunFolder
from anamorph.training.run import ComputeSettings

__all__ = ["FAMILIES", "MINUTES", "Entrant", "Family", "Leg", "family_comparison"]

MINUTES = 20.0
GROWN_FOR = 150.0
"""Minutes that the presets for 32 px were made for; with fewer, they grow faster."""
SHOWN = 8


@dataclass(frozen=True)
class Leg:
    """One training of an entrant. share: of its minutes. rate: some times as many images as it sees in a second of one core: it
    is stopped by its minutes, and only how often it is logged hangs on this."""

    model: str
    config: Any = None
    share: float = 1.0
    rate: int = 4000
    batch: int = 128
    grows: bool = False


@dataclass(frozen=True)
class Entrant:
    """A model, or a model and a prior over its codes, each trained for its share of the minutes."""

    legs: tuple[Leg, ...]


@dataclass(frozen=True)
class Family:
    """Entrants on the same images. size: of the images, which smaller ones are enlarged to."""

    source: str
    size: tuple[int, int]
    entrants: Mapping[str, Entrant] = field(default_factory=dict)
    credit: str = ""


def _one(model: str, config: Any = None, rate: int = 4000, batch: int = 128, grows: bool = False) -> Entrant:
    return Entrant((Leg(model, config, 1.0, rate, batch, grows),))


def _two(first: Leg, second: Leg) -> Entrant:
    return Entrant((first, second))


FASHION = {
    "autoencoder": _one("autoencoder"),
    "autoencoder + mixture": _two(Leg("autoencoder", share=0.9), Leg("mixture", share=0.1, rate=20_000)),
    "vae": _one("vae"),
    "vae, convolutional": _one("vae", VAEConfig(net="convolutional", likelihood="shared"), 2000),
    "gan": _one("gan"),
    "alae": _one("alae"),
    "stylegan": _one("stylegan", rate=800, grows=True),
    "stylealae": _one("stylealae", rate=800, grows=True),
    "vqvae + pixelcnn": _two(
        Leg("vqvae", VQVAEConfig(width=64, num_embeddings=128, embedding_dim=32, likelihood="logistic"), 0.5, 2000, 64),
        Leg("pixelcnn", PixelCNNConfig(width=64, layers=8, head_channels=256, dropout=0.1), 0.5, 4000, 128),
    ),
    "vqvae2 + pixelsnail": _two(
        Leg("vqvae2", VQVAE2Config(width=64, num_embeddings=128, embedding_dim=32), 0.5, 2000, 64),
        Leg("pixelsnail", PixelSNAILConfig(width=32, residual_channels=32, kernel_size=3, residual_blocks=2), 0.5, 1000, 64),
    ),
}
CATS = {
    "vae": _one("vae", VAEConfig(z_dim=128, widths=(1024, 1024))),
    "autoencoder": _one("autoencoder", AutoencoderConfig(z_dim=128)),
    "stylegan": _one("stylegan", rate=800, grows=True),
    "stylealae": _one("stylealae", rate=800, grows=True),
}
FAMILIES = {
    "fashion-mnist": Family("fashion-mnist", (32, 32), FASHION),
    "cats": Family("avatars-cats", (32, 32), CATS, "Cat parts by David Revoy, CC BY 4.0"),
}
"""By the name of their folder."""


def family_comparison(
    out: Path,
    choice: ComputeRequest,
    say: Callable[[str], None],
    minutes: float = MINUTES,
    n: int = 5000,
    families: Mapping[str, Family] = FAMILIES,
    stop: Callable[[], bool] = lambda: False,
    *,
    workers: int = 2,
    features: str = "auto",
) -> bool:
    """Family after family, train every entrant for so many CPU minutes, `workers` at a time on one thread each, measure all of
    them over n images, and write a comparison, a picture, and a page of results, each by the family's name.

    What has been done is not done again. Returns whether it came to its end, or was stopped.
    """
    choice = replace(choice, threads=1)
    for place, family in families.items():
        names = family.entrants
        jobs = [_Job(family, name, out / place / _folder(name), minutes * 60, choice) for name in names]
        if not _all_trained(jobs, say, stop, workers):
            return False
        columns = _measured(family, out / place, n, features, say, stop)
        if columns is None:
            return False
        found = compare_columns(columns)
        write_comparison(found, columns, out / place)
        _picture(family, columns, out / f"{place}.png")
        (out / f"{place}.md").write_text(_text(place, family, columns, found, minutes), encoding="utf-8")
        say(f"wrote {out / place}.md")
    return True


def _folder(name: str) -> str:
    return name.replace(",", "").replace(" + ", "-").replace(" ", "-")


@dataclass(frozen=True)
class _Job:
    """An entrant's training: its legs are in folders of its own."""

    family: Family
    name: str
    folder: Path
    seconds: float
    choice: ComputeRequest

    def run(self, say: Callable[[str], None], stop: Callable[[], bool]) -> bool:
        """Whether it has come to its end."""
        apply_compute_settings(ComputeSettings(self.choice.device or "cpu", "float32", 1))
        entrant, codes_of = self.family.entrants[self.name], ""
        for i, leg in enumerate(entrant.legs):
            folder = self.folder / str(i)
            if not _trained(leg, self.family, folder, self.seconds * leg.share, self.choice, codes_of, stop):
                return False
            codes_of = str(folder)
        say(f"{self.family.source}: {self.name} has had its {self.seconds / 60:g} minutes")
        return True


def _trained(
    leg: Leg, family: Family, path: Path, seconds: float, choice: ComputeRequest, codes_of: str, stop: Callable[[], bool]
) -> bool:
    """Whether a leg has had its seconds; it is started, or goes on."""
    folder, spent_path = RunFolder(path), path / "budget.json"
    with folder.locked():
        if not folder.exists:
            _settings(leg, family, seconds, choice, codes_of).write(folder)
        known = read_json(spent_path) if spent_path.is_file() else {"cpu_seconds": _logged(folder), "done": False}
        if known["done"]:
            return True
        before, began = float(known["cpu_seconds"]), time.process_time()

        def spent() -> float:
            return before + time.process_time() - began

        for _ in open_training(folder).run_to_end(lambda: spent() >= seconds or stop()):
            pass
        done = spent() >= seconds or not stop()
        write_json(spent_path, {"cpu_seconds": spent(), "done": done, "images": folder.images_seen()})
        return done


def _logged(folder: RunFolder) -> float:
    """What a training that was killed is known to have spent."""
    lines = folder.metrics()
    return float(lines[-1]["cpu_seconds"]) if lines else 0.0


def _settings(leg: Leg, family: Family, seconds: float, choice: ComputeRequest, codes_of: str) -> Any:
    made = preset(leg.model, min(family.size)) if leg.grows else None
    config = leg.config or (made.config if made else config_class(leg.model)())
    growing = _hurried(made.growing, seconds / 60 / GROWN_FOR) if made and made.growing else None
    return new_settings(
        leg.model,
        family.source,
        max(leg.batch, round(seconds * leg.rate)),
        config=config,
        growing=growing,
        read_options=ReadOptions(None if codes_of else family.size, upscale=not codes_of),
        batch=leg.batch,
        compute=choice,
        codes_of=codes_of,
    )


def _hurried(growing: Growing, share: float) -> Growing:
    """The same levels, each for a share of its images."""
    images = {name: max(1, round(getattr(growing, name) * share)) for name in ("first", "stable")}
    return replace(growing, fade_images=round(growing.fade_images * share), **images)


def _all_trained(jobs: Sequence[_Job], say: Callable[[str], None], stop: Callable[[], bool], workers: int) -> bool:
    """Whether all have come to their end; several at once, each in a process of its own, unless there is one worker."""
    if workers == 1:
        return all(job.run(say, stop) for job in jobs)
    context = multiprocessing.get_context("spawn")
    asked, waiting = context.Event(), list(jobs)
    running: list[Any] = []
    while (waiting and not stop()) or running:
        while waiting and len(running) < workers and not stop():
            process = context.Process(target=_work, args=(waiting.pop(0), asked))
            process.start()
            running.append(process)
        if stop():
            asked.set()
        time.sleep(0.2)
        for process in [process for process in running if process.exitcode is not None]:
            running.remove(process)
            if process.exitcode:
                asked.set()
                for other in running:
                    other.join()
                raise RuntimeError("a training has failed: its error stands above; the same command goes on when it is mended")
    if stop():
        return False
    for job in jobs:
        say(f"{job.family.source}: {job.name} has had its {job.seconds / 60:g} minutes")
    return True


def _work(job: _Job, asked: Event) -> None:
    """One training, in a process of its own; whoever started it hears the interruptions."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job.run(lambda text: None, asked.is_set)


def _measured(
    family: Family, out: Path, n: int, features: str, say: Callable[[str], None], stop: Callable[[], bool]
) -> list[Column] | None:
    """Every entrant, evaluated; None, if that was stopped."""
    columns: list[Column] = []
    eyes: FeatureNetworks | None = None
    for name, entrant in family.entrants.items():
        if stop():
            return None
        run = out / _folder(name) / str(len(entrant.legs) - 1)
        model, data = open_for_evaluation(run, None, n)
        eyes = eyes or choose_networks(features, data.train.source, data.held_out.source)
        with torch.no_grad():
            record, looks = evaluate(evaluated_run(run, data, eyes, n, model=model))
            write_report(record, looks)
        say(f"{family.source}: measured {name}")
        columns.append(Column(name, record, looks))
    return columns


def _text(place: str, family: Family, columns: Sequence[Column], found: Comparison, minutes: float) -> str:
    """Markdown: what each has seen, all measures, and the picture."""
    lines = [
        f"## {family.source}, {minutes:g} CPU minutes each",
        "",
        "| | images seen | level | CPU minutes |",
        "|---|---|---|---|",
    ]
    for column in columns:
        runs = [column.cache.subject.path.parent / str(i) for i in range(len(family.entrants[column.name].legs))]
        budgets = [read_json(run / "budget.json") for run in runs]
        images = " + ".join(f"{budget['images']:,}" for budget in budgets)
        spent = number(sum(budget["cpu_seconds"] for budget in budgets) / 60)
        size = column.cache.subject.model.signal
        lines.append(f"| {column.name} | {images} | {size.shape[-2]}x{size.shape[-1]} | {spent} |")
    picture = f"![The same held-out images by every model, and samples]({place}.png)"
    return "\n".join([*lines, "", markdown(found), "", picture, "", family.credit, ""])


def _picture(family: Family, columns: Sequence[Column], path: Path) -> None:
    """The first held-out images, what every model makes of them, and what it draws."""
    rows: list[Row] = []
    drawn: list[Row] = []
    size = columns[0].cache.subject.data.held_out.source.signal
    for column in columns:
        looks = column.cache
        model = looks.subject.model
        if model.signal != size:  # it has not grown to full size in its minutes
            continue
        if isinstance(model, Encodes):
            look = looks.reconstructions
            rows += [] if rows else [Row("held out", look["originals"][:SHOWN].float() / 127.5 - 1)]
            rows.append(Row(f"{column.name}: again", look["images"][:SHOWN].float() / 127.5 - 1))
        if isinstance(model, Samples):
            drawn.append(Row(f"{column.name}: drawn", looks.samples["images"][:SHOWN].float() / 127.5 - 1))
    save_picture(path, sheet([*rows, *drawn], f"The first {SHOWN}, unpicked: {family.source}. {family.credit}"))
