"""Pictures of a run in progress: always the same latents and the same images, so that times can be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from anamorph.core.model import Draws, Encodes, Grows, LatentModel, decode_in_parts, encode_in_parts
from anamorph.core.random import Seeded
from anamorph.core.signal import Source
from anamorph.core.stage import Stage
from anamorph.figures.codebook import Quantised, save_codebooks
from anamorph.figures.curves import save_curves
from anamorph.figures.grid import Row, Sheet, as_picture, save_grid, save_picture, sheet
from anamorph.nn.quantize import Codebook
from anamorph.nn.resample import double

__all__ = ["draw_codebooks", "draw_curves", "draw_progress", "samples"]

SHOWN = 8
WALL = 64
CODED = 256
"""Images whose features are shown among a codebook's vectors."""


@torch.no_grad()
def samples(model: Draws, n: int, seed: int, place: str = "samples") -> Tensor:
    """n images [n, C, H, W] from latents that depend on the seed alone."""
    device = next(model.parameters()).device
    return decode_in_parts(model, model.draw(n, Seeded(seed, place, device=device)))


@torch.no_grad()
def draw_progress(folder: Path, model: LatentModel, shown: Source, images: int, seed: int, stage: Stage) -> Path:
    """Write samples, reconstructions, and the timeline of both so far; returns the timeline's path.

    shown: images, best such as are not trained on. stage: how far a growing model has come.
    """
    device = next(model.parameters()).device
    model = model.at(stage) if isinstance(model, Grows) else model
    originals = shown.take(0, SHOWN, stage.level).signals.to(device)
    cells: list[Tensor] = []
    if isinstance(model, Draws):
        wall = samples(model, WALL, seed)
        save_grid(folder / f"samples-{images:012d}.png", wall, title=f"{images:,} images seen")
        cells += list(wall[:SHOWN])
    if isinstance(model, Encodes):
        again = model.decode(model.encode(originals))
        rows = [Row("originals", originals), Row("reconstructions", again)]
        save_picture(folder / f"reconstructions-{images:012d}.png", sheet(rows, f"{images:,} images seen"))
        cells += list(again)
        if not isinstance(model, Draws):
            draw_codebooks(folder / "codebooks.png", model, shown.take(0, CODED).signals.to(device), f"{images:,} images seen")
    if not cells:
        cells = list(originals)
    strip = double(torch.cat([cell.cpu() for cell in cells], 2).unsqueeze(0), stage.level)[0]  # at full size
    save_picture(folder / "strips" / f"{images:012d}.png", as_picture(strip))
    timeline = folder / "timeline.png"
    save_picture(timeline, _timeline(folder / "strips", shown.take(0, SHOWN).signals, model))
    return timeline


@torch.no_grad()
def draw_codebooks(path: Path, model: Encodes, x: Tensor, title: str = "") -> None:
    """Write a picture of each codebook of a model among what its encoder makes of images; none, if it has no codebook."""
    books = [module for module in model.modules() if isinstance(module, Codebook)]
    seen: dict[Codebook, list[Tensor]] = {book: [] for book in books}
    hooks = [
        book.register_forward_pre_hook(lambda module, given: seen[module].append(given[0].float().cpu())) for book in books
    ]
    try:
        encode_in_parts(model, x)
    finally:
        for hook in hooks:
            hook.remove()
    names = [space.name for space in model.spaces]
    names = names if len(names) == len(books) else [f"codebook {i + 1}" for i in range(len(books))]
    panels = {}
    for name, book in zip(names, books, strict=True):
        outputs = torch.cat([part.flatten(0, -2) for part in seen[book]])
        ids = book.nearest(outputs.to(book.vectors.device)).cpu()
        panels[name] = Quantised(outputs, book.vectors.detach().cpu(), torch.bincount(ids, minlength=book.vocabulary))
    if panels:
        save_codebooks(path, panels, title)


def _timeline(strips: Path, originals: Tensor, model: LatentModel) -> Sheet:
    width = originals.shape[-1]
    left: list[Tensor | None] = [None] * SHOWN if isinstance(model, Draws) else []
    right = list(originals) if isinstance(model, Encodes) else []
    rows = [Row("originals", [*left, *right])] if right else []
    for path in sorted(strips.glob("*.png")):
        cells = _read(path).split(width, 2)
        rows.append(Row(f"{int(path.stem):,} seen", list(cells)))
    parts = ["samples"] * isinstance(model, Draws) + ["reconstructions"] * isinstance(model, Encodes)
    return sheet(rows, " and ".join(parts).capitalize() + " while training")


def _read(path: Path) -> Tensor:
    """A picture as an image [C, H, W] in [-1, 1]."""
    with Pillow.open(path) as picture:
        array = np.atleast_3d(np.asarray(picture, np.float32)) / 127.5 - 1
    return torch.from_numpy(array).movedim(-1, 0)


def draw_curves(path: Path, records: list[dict[str, Any]]) -> None:
    """Write what was logged as curves, one panel per phase for its terms and one for what it watched."""
    names = dict.fromkeys(name for record in records for name in record if "/" in name)
    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for name in names:
        phase, term = name.split("/", 1)
        points = [(r["images"], r[name]) for r in records if isinstance(r.get(name), float)]
        if points:
            panels.setdefault(phase, {})[term] = ([float(x) for x, _ in points], [y for _, y in points])
    if panels:
        save_curves(path, panels)
