"""`anamorph reconstruct RUN IMAGE... or SOURCE`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from anamorph.cli.options import ClassArguments, Common, ImageArguments, RunArgument, check_at_least, emit
from anamorph.cli.parsing import parse

__all__ = ["main"]


@dataclass(frozen=True)
class Reconstruct(Common):
    """Encode and decode images or sounds, and measure the error of each.

    Originals and reconstructions are written as one picture; sounds also as WAV files.
    """

    run: RunArgument = tyro.MISSING
    """Folder of the run."""
    images: Annotated[ImageArguments, tyro.conf.arg(metavar="[IMAGE...]")] = ()
    """Files, seed:7 or data:12; or one SOURCE, whose first n held-out examples are used. Default: the run's own source."""
    n: int = 16
    """Number of examples to use of a source, at least 1."""
    label: ClassArguments = ()
    """Decode with these classes instead of the examples' own, as in speaker=theo. For models that decode a label."""


def main(words: Sequence[str]) -> int:
    options = parse(Reconstruct, "reconstruct", words)
    check_at_least(1, n=options.n)

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
    classes = class_numbers(options.run, options.label, label_sizes(model), "the model does not decode a label")
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
            encoded = encode_arguments(model, options.run, options.images, classes)
            codes = stack_codes(encoded)
            originals, names = torch.cat([e.image for e in encoded]), [e.name for e in encoded]
        reconstructions = model.decode(codes).float().clamp(-1, 1)
    errors = (reconstructions - originals.clamp(-1, 1)).square().flatten(1).mean(1).tolist()
    rows = []
    for start in range(0, len(originals), 8):
        rows += [
            Row(model.signal.noun, originals[start : start + 8]),
            Row("reconstruction", reconstructions[start : start + 8]),
        ]
    path = options.out or options.run / "reconstruct.png"
    written = show(path, model.signal, rows)
    lines = [f"{name}: squared error {error:.4f}" for name, error in zip(names, errors, strict=True)]
    mean, unit = sum(errors) / len(errors), "pixels" if isinstance(model.signal, Image) else "samples"
    lines.append(f"{written}: {len(errors)} {model.signal.noun}s, mean squared error {mean:.4f} ({unit} in [-1, 1])")
    emit(options.json, "\n".join(lines), **written.paths, squared_errors=dict(zip(names, errors, strict=True)))
    return 0
