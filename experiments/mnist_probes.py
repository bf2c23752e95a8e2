"""The protocol of the ALAE paper's MNIST table: what 1-NN and a linear SVM read off the codes of three models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.files import read_json, write_json
from anamorph.core.signal import Source
from anamorph.metrics.probes import linear_svm_accuracy, nearest_neighbour_accuracy
from anamorph.models.adversarial_autoencoders.alae import ALAE, ALAEConfig
from anamorph.models.autoencoders.autoencoder import Autoencoder, AutoencoderConfig
from anamorph.models.autoencoders.vae import VAE, VAEConfig
from anamorph.run_data import open_data
from anamorph.runs import Training, new_settings, open_training
from anamorph.training.autotune import ComputeRequest
from anamorph.training.folder import RunFolder

__all__ = ["mnist_probes"]

Model = ALAE | VAE | Autoencoder

EPOCH, BATCH = 60_000, 128
IMAGES = 75 * EPOCH
SHOWN = tuple(epoch * EPOCH for epoch in (1, 25, 50, 75))
SEEDS = (0, 1, 2)
CONFIGS = {
    "alae": ALAEConfig(),
    "vae": VAEConfig(),
    "autoencoder": AutoencoderConfig(),
}
PUBLISHED = {  # per cent; Pidhorskyi et al. 2020, Table 1, as remembered (24 M images)
    "alae": (93.79, 93.47, 97.61, 98.64),
    "autoencoder": (97.52, 88.78, 97.37, 97.23),
}
MEASURES = ("nn_short", "svm_short", "nn_long", "svm_long")


def mnist_probes(
    out: Path,
    choice: ComputeRequest,
    say: Callable[[str], None],
    images: int = IMAGES,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train and probe `alae`, `vae` and `autoencoder` with the same nets, three seeds each, on MNIST; write results.json.

    short: the 50-d code; long: the 1024-d activation before it; of the trained weights (raw), as in the paper, and of their
    average. What has been done is not done again. Returns whether it came to its end, or was stopped.

    Raises: UserError if the folder holds runs of another number of images.
    """
    if images < 1:
        raise UserError(f"--images must be at least 1, got {images}")
    rows = []
    for seed in SEEDS:
        for name, config in CONFIGS.items():
            folder = RunFolder(out / f"{name}-{seed}")
            found = folder.path / "probes.json"
            if not found.is_file():
                row = _row(folder, name, config, seed, images, choice, say, stop)
                if row is None:
                    return False
                write_json(found, row)
            rows.append(read_json(found))
            if not 0 <= rows[-1]["images"] - images < BATCH:
                raise UserError(f"{found} is of {rows[-1]['images']:,} images, not of {images:,}: choose another --out")
            say(_line(rows[-1]))
    write_json(out / "results.json", rows)
    (out / "results.md").write_text(_table(rows), encoding="utf-8")
    say(f"wrote {out / 'results.md'}")
    return True


def _row(
    folder: RunFolder,
    name: str,
    config: Any,
    seed: int,
    images: int,
    choice: ComputeRequest,
    say: Callable[[str], None],
    stop: Callable[[], bool],
) -> dict[str, Any] | None:
    """What one run gave; None if it was stopped."""
    with folder.locked():
        if not folder.exists:
            pictures = tuple(shown for shown in SHOWN if shown <= images)
            settings = new_settings(name, "mnist", images, config=config, seed=seed, pictures=pictures, compute=choice)
            settings.write(folder)
        training = open_training(folder)
        if training.settings.images != images:
            raise UserError(f"{folder} is a run of {training.settings.images:,} images: choose another --out")
        for status in training.run_to_end(stop):
            if status.picture:
                say(f"{name}, seed {seed}: {status.images:,} images, {status.images_per_second:.0f} images/s")
    if training.run.images < images:
        return None
    last = folder.metrics()[-1]
    probes = {"raw": _probe(training, training.run.model), "average": _probe(training, training.run.ema.model)}
    return {
        "model": name,
        "seed": seed,
        "images": last["images"],
        "seconds": last["seconds"],
        "cpu_seconds": last["cpu_seconds"],
        "machine": str(training.settings.compute),
        **probes,
    }


def _probe(training: Training, model: torch.nn.Module) -> dict[str, float]:
    assert isinstance(model, (ALAE, VAE, Autoencoder))
    sources = [open_data(training.settings, split).in_order() for split in ("train", "test")]
    (short, long, classes), (test_short, test_long, test_classes) = (_features(model, source) for source in sources)
    found = {}
    for length, codes, test_codes in (("short", short, test_short), ("long", long, test_long)):
        data = (codes, classes, test_codes, test_classes)
        found[f"nn_{length}"] = nearest_neighbour_accuracy(*data)
        found[f"svm_{length}"] = linear_svm_accuracy(*data)
    return found


@torch.no_grad()
def _features(model: Model, source: Source) -> tuple[Tensor, Tensor, Tensor]:
    """Codes [N, 50], features [N, 1024] and classes [N] of a whole source."""
    parts = list(_batches(model, source))
    short, long, classes = (torch.cat(column) for column in zip(*parts, strict=True))
    return short, long, classes


def _batches(model: Model, source: Source, size: int = 2000) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    device = next(model.parameters()).device
    for start in range(0, source.size, size):
        batch = source.take(start, min(size, source.size - start))
        x = batch.signals.to(device)
        (code,) = model.encode(x).values()
        yield code.cpu(), model.features(x).cpu(), batch.labels["class"]


def _line(row: dict[str, Any]) -> str:
    cells = [f"{m} {100 * row['raw'][m]:.2f} ({100 * row['average'][m]:.2f})" for m in MEASURES]
    return f"{row['model']}, seed {row['seed']}, {row['images']:,} images: " + ", ".join(cells)


def _table(rows: list[dict[str, Any]]) -> str:
    """Markdown: accuracy in per cent, mean +- standard deviation over the seeds, beside the published numbers."""
    lines = [
        "| model | weights | images | 1-NN short | SVM short | 1-NN long | SVM long | CPU seconds of training |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in CONFIGS:
        mine = [row for row in rows if row["model"] == name]
        for weights in ("raw", "average"):
            cells = [_spread([100 * row[weights][m] for row in mine]) for m in MEASURES]
            seen, seconds = f"{mine[0]['images']:,}", _spread([r["cpu_seconds"] for r in mine], 0)
            lines.append(f"| {name} | {weights} | {seen} | {' | '.join(cells)} | {seconds} |")
        if name in PUBLISHED:
            numbers = " | ".join(f"{v:.2f}" for v in PUBLISHED[name])
            lines.append(f"| {name} | published (from memory of the paper) | 24,000,000 | {numbers} | |")
    return "\n".join(lines) + "\n"


def _spread(values: list[float], digits: int = 2) -> str:
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"
