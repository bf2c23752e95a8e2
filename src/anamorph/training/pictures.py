"""Pictures of a run in progress. They always show the same codes and the same images, so that they can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anamorph.core.labels import encode_batch
from anamorph.core.model import Encodes, Grows, LatentModel, Samples, decode_in_chunks, encode_in_chunks
from anamorph.core.random import Seeded
from anamorph.core.signal import Image, Source
from anamorph.core.stage import Stage
from anamorph.figures.codebook import CodebookView, save_codebooks
from anamorph.figures.curves import save_curves
from anamorph.figures.grid import Row
from anamorph.figures.show import draw, save_strip, saved_strips, show, show_all
from anamorph.nn.quantize import Codebook
from anamorph.nn.resample import upsample

__all__ = ["draw_codebooks", "draw_curves", "draw_progress", "samples"]

CODED = 256
"""Examples whose encoder outputs are drawn among a codebook's vectors."""


@dataclass(frozen=True)
class _Few:
    """Numbers of examples: in a picture of samples, and in one row."""

    wall: int
    side_by_side: int


FEW, FEW_SOUNDS = _Few(64, 8), _Few(16, 4)


@torch.no_grad()
def samples(model: Samples, n: int, seed: int, key: str = "samples") -> Tensor:
    """Decode n signals [n, *signal.shape] from codes that depend on the seed alone."""
    device = next(model.parameters()).device
    return decode_in_chunks(model, model.sample_codes(n, Seeded(seed, key, device=device)))


@torch.no_grad()
def draw_progress(folder: Path, model: LatentModel, preview: Source, images: int, seed: int, stage: Stage) -> Path:
    """Write samples, reconstructions, and the timeline of both so far; return the timeline's path.

    Args:
        folder: where the pictures are written.
        model: what is drawn.
        preview: images or sounds to reconstruct, best such as are not trained on.
        images: images seen, for titles and file names.
        seed: seed of the samples.
        stage: the stage of a growing model.
    """
    device = next(model.parameters()).device
    model = model.at(stage) if isinstance(model, Grows) else model
    few = FEW if isinstance(preview.signal, Image) else FEW_SOUNDS
    batch = preview.take(0, few.side_by_side, stage.level).to(device)
    title, cells = f"{images:,} {preview.signal.noun}s seen", list[Tensor]()
    if isinstance(model, Samples):
        wall = samples(model, few.wall, seed)
        show_all(folder / f"samples-{images:012d}.png", model.signal, wall, title=title)
        cells += list(wall[: few.side_by_side])
    if isinstance(model, Encodes):
        again = model.decode(encode_batch(model, batch))
        rows = [Row("originals", batch.signals), Row("reconstructions", again)]
        show(folder / f"reconstructions-{images:012d}.png", model.signal, rows, title)
        cells += list(again)
        if not isinstance(model, Samples):
            draw_codebooks(folder / "codebooks.png", model, preview.take(0, CODED).signals.to(device), title)
    cells = cells or list(batch.signals)
    whole = [upsample(cell.unsqueeze(0), stage.level)[0] for cell in cells] if stage.level else cells
    save_strip(folder / "strips", images, preview.signal, whole)
    return _timeline(folder, preview, model, few.side_by_side)


@torch.no_grad()
def draw_codebooks(path: Path, model: Encodes, x: Tensor, title: str = "") -> None:
    """Draw each codebook of a model among the encoder outputs of some signals; a model without one has no such picture."""
    books = [module for module in model.modules() if isinstance(module, Codebook)]
    seen: dict[Codebook, list[Tensor]] = {book: [] for book in books}
    hooks = [
        book.register_forward_pre_hook(lambda module, given: seen[module].append(given[0].float().cpu())) for book in books
    ]
    try:
        encode_in_chunks(model, x)
    finally:
        for hook in hooks:
            hook.remove()
    names = [space.name for space in model.spaces]
    names = names if len(names) == len(books) else [f"codebook {i + 1}" for i in range(len(books))]
    panels = {}
    for name, book in zip(names, books, strict=True):
        outputs = torch.cat([part.flatten(0, -2) for part in seen[book]])
        ids = book.nearest(outputs.to(book.vectors.device)).cpu()
        panels[name] = CodebookView(outputs, book.vectors.detach().cpu(), torch.bincount(ids, minlength=book.num_embeddings))
    if panels:
        save_codebooks(path, panels, title)


def _timeline(folder: Path, preview: Source, model: LatentModel, few: int) -> Path:
    left: list[Tensor | None] = [None] * few if isinstance(model, Samples) else []
    right = list(preview.take(0, few).signals) if isinstance(model, Encodes) else []
    rows = [Row("originals", [*left, *right])] if right else []
    rows += [Row(f"{seen:,} seen", cells) for seen, cells in saved_strips(folder / "strips", preview.signal)]
    parts = ["samples"] * isinstance(model, Samples) + ["reconstructions"] * isinstance(model, Encodes)
    return draw(folder / "timeline.png", preview.signal, rows, " and ".join(parts).capitalize() + " while training")


def draw_curves(path: Path, records: list[dict[str, Any]]) -> None:
    """Draw the numbers of a log as curves, one panel for each phase."""
    names = dict.fromkeys(name for record in records for name in record if "/" in name)
    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for name in names:
        phase, term = name.split("/", 1)
        points = [(r["images"], r[name]) for r in records if isinstance(r.get(name), float)]
        if points:
            panels.setdefault(phase, {})[term] = ([float(x) for x, _ in points], [y for _, y in points])
    if panels:
        save_curves(path, panels)
