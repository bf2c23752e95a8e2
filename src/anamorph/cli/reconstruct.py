"""`anamorph reconstruct RUN IMAGE... or SOURCE`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from anamorph.cli.options import Common, ImageArguments, RunArgument, emit, parse

__all__ = ["main"]


@dataclass(frozen=True)
class Reconstruct(Common):
    """Encode and decode images; write them above their reconstructions as one picture, and tell the error of each."""

    run: RunArgument = tyro.MISSING
    """The run's folder."""
    images: ImageArguments = ()
    """Files, seed:7, data:12; or one source, of which the first n held-out images are taken. Default: the run's own."""
    n: int = 16
    """How many of a source."""


def main(words: Sequence[str]) -> int:
    options = parse(Reconstruct, "reconstruct", words)

    import torch

    from anamorph.cli.picking import as_source, pick
    from anamorph.core.model import Encodes, level_in, require
    from anamorph.figures.grid import Row, save_picture, sheet
    from anamorph.runs import settings_of, shown
    from anamorph.training.folder import RunFolder

    model = require(options.load(options.run), Encodes, "reconstruction")
    with options.computing():
        source = as_source(model, options.images)
        if not options.images:
            source = shown(settings_of(RunFolder(options.run)))
        if source is not None:
            level = level_in(model, source.signal)
            originals = source.take(0, min(options.n, source.size), level).signals.to(options.device)
            names = [f"{source.name} {i}" for i in range(len(originals))]
        else:
            picked = pick(model, options.run, options.images)
            originals, names = torch.cat([p.image for p in picked]), [p.name for p in picked]
        again = model.decode(model.encode(originals)).float().clamp(-1, 1)
    errors = (again - originals.clamp(-1, 1)).square().flatten(1).mean(1).tolist()
    rows = []
    for start in range(0, len(originals), 8):
        rows += [Row("image", originals[start : start + 8]), Row("reconstruction", again[start : start + 8])]
    path = options.out or options.run / "reconstruct.png"
    save_picture(path, sheet(rows))
    lines = [f"{name}: squared error {error:.4f}" for name, error in zip(names, errors, strict=True)]
    lines.append(f"{path}: {len(errors)} images, mean squared error {sum(errors) / len(errors):.4f} (pixels in [-1, 1])")
    emit(options.json, "\n".join(lines), path=path, squared_errors=dict(zip(names, errors, strict=True)))
    return 0
