"""`anamorph reconstruct RUN IMAGE... or SOURCE`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from anamorph.cli.options import Common, ImageArguments, RunArgument, emit, parse

__all__ = ["main"]


@dataclass(frozen=True)
class Reconstruct(Common):
    """Encode and decode images or sounds; write them above their reconstructions as one picture (sounds as WAV files, too), and
    tell the error of each."""

    run: RunArgument = tyro.MISSING
    """The run's folder."""
    images: ImageArguments = ()
    """Files, seed:7, data:12; or one source, of which the first n held-out ones are taken. Default: the run's own."""
    n: int = 16
    """How many of a source."""
    label: tuple[str, ...] = ()
    """Another class than their own, as name=value, as in speaker=theo. For models that decode a label."""


def main(words: Sequence[str]) -> int:
    options = parse(Reconstruct, "reconstruct", words)

    import torch

    from anamorph.cli.classes import class_numbers
    from anamorph.cli.image_arguments import as_source, encode_arguments, stack_codes
    from anamorph.core.labels import encode_batch, label_sizes, with_labels
    from anamorph.core.model import Encodes, level_of, require
    from anamorph.core.signal import Image
    from anamorph.figures.grid import Row
    from anamorph.figures.show import show
    from anamorph.run_data import preview_data
    from anamorph.runs import settings_of
    from anamorph.training.folder import RunFolder

    model = require(options.load(options.run), Encodes, "reconstruction")
    classes = class_numbers(options.run, options.label, label_sizes(model), "the model decodes no")
    with options.computing():
        source = as_source(model, options.run, options.images)
        if not options.images:
            source = preview_data(settings_of(RunFolder(options.run)))
        if source is not None:
            level = level_of(model, source.signal)
            batch = source.take(0, min(options.n, source.size), level).to(torch.device(options.device))
            originals = batch.signals
            codes = with_labels(encode_batch(model, batch, source.name), classes)
            names = [f"{source.name} {i}" for i in range(len(originals))]
        else:
            picked = encode_arguments(model, options.run, options.images, classes)
            codes = stack_codes(picked)
            originals, names = torch.cat([p.image for p in picked]), [p.name for p in picked]
        again = model.decode(codes).float().clamp(-1, 1)
    errors = (again - originals.clamp(-1, 1)).square().flatten(1).mean(1).tolist()
    rows = []
    for start in range(0, len(originals), 8):
        rows += [Row(model.signal.noun, originals[start : start + 8]), Row("reconstruction", again[start : start + 8])]
    path = options.out or options.run / "reconstruct.png"
    written = show(path, model.signal, rows)
    lines = [f"{name}: squared error {error:.4f}" for name, error in zip(names, errors, strict=True)]
    mean, what = sum(errors) / len(errors), "pixels" if isinstance(model.signal, Image) else "samples"
    lines.append(f"{written}: {len(errors)} {model.signal.noun}s, mean squared error {mean:.4f} ({what} in [-1, 1])")
    emit(options.json, "\n".join(lines), **written.paths, squared_errors=dict(zip(names, errors, strict=True)))
    return 0
