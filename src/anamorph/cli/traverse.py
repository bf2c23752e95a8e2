"""`anamorph traverse RUN IMAGE... --directions FILE`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from anamorph.cli.factor_classifier import LEARN, factor_classifier
from anamorph.cli.options import Common, ImageArguments, RunArgument, emit, note, parse
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from anamorph.core.model import LatentModel
    from anamorph.core.space import Space
    from anamorph.edit.directions import Directions
    from anamorph.edit.layers import Layers

__all__ = ["main"]

READ = 128
"""Images whose factors are read."""


@dataclass(frozen=True)
class Traverse(Common):
    """Rows of an image moved along directions, and how much each changes what the others are about."""

    run: RunArgument = tyro.MISSING
    """The run's folder."""
    images: ImageArguments = ()
    """Files, seed:7, data:12."""
    directions: Path = tyro.MISSING
    """A file that `anamorph directions` wrote."""
    names: tuple[str, ...] = ()
    """Only these directions; the first ten by default."""
    layers: str | None = None
    """Move only these layers: coarse, middle, fine, all, 0-3 or 0-1,6; by default those that the file says."""
    reach: float = 3.0
    """How far to go either way, in standard deviations of codes."""
    steps: int = 9
    """Images in a row."""
    factors: str | None = None
    """A source with labels: tell how often each changes, as a classifier reads it, which is trained once, and kept in the run's
    folder (minutes)."""
    learn: int = LEARN
    """Images that this classifier is trained on."""


def main(words: Sequence[str]) -> int:
    options = parse(Traverse, "traverse", words)
    if not options.images or options.steps < 2 or not 0 < options.reach < float("inf"):
        raise UserError("name the images to move (files, seed:7, data:12), at least 2 --steps, and a --reach above 0")

    import torch

    from anamorph.cli.image_arguments import encode_arguments, stack_codes
    from anamorph.core.fingerprint import fingerprint_of
    from anamorph.core.model import Encodes, code_space, decode_in_chunks
    from anamorph.edit.directions import Directions
    from anamorph.edit.layers import layers_among
    from anamorph.edit.traverse import leakage, traversal
    from anamorph.figures.grid import Row
    from anamorph.figures.show import show

    directions = Directions.read(options.directions)
    directions = directions.only(options.names or directions.names[:10])
    model = options.load(options.run)
    space = directions.check([code_space(model)])
    if directions.model not in ("", fingerprint_of(model)):
        note(f"{options.directions} was made for another model, or for this one when it had seen fewer images")
    layers = None if options.layers is None else layers_among(options.layers, [space])
    steps = torch.linspace(-options.reach, options.reach, options.steps, device=options.device)
    with options.computing():
        codes = stack_codes(encode_arguments(model, options.run, options.images))
        images = decode_in_chunks(model, traversal(codes, directions, steps, space, layers))
        matrix = leakage(model, codes, directions, space, options.reach / 2, layers) if isinstance(model, Encodes) else None
    ways = [f"{name}, {way}" if len(options.images) > 1 else way for name in options.images for way in directions.names]
    rows = [Row(way, row) for way, row in zip(ways, images.split(len(steps)), strict=True)]
    path = options.out or options.run / "traverse.png"
    title = f"standard deviations along {directions.method} directions"
    written = show(path, model.signal, rows, title, [f"{step:+.3g}" for step in steps.tolist()])
    facts: dict[str, object] = {**written.paths, "names": directions.names}
    if options.factors is not None:
        with options.computing():
            facts |= _factors(model, directions, space, layers, options, path.with_stem(f"{path.stem}-factors"))
    told = f"{written}: {title}"
    if matrix is not None:
        told, facts = f"{told}\n{_describe(directions, matrix)}", facts | {"moved": matrix.tolist()}
    emit(options.json, told, **facts)
    return 0


def _factors(
    model: LatentModel, directions: Directions, space: Space, layers: Layers | None, options: Traverse, chart: Path
) -> dict[str, object]:
    """How often each factor of images changes, half the reach along each direction: of drawn images, or of held-out ones."""
    from anamorph.cli.image_arguments import open_like
    from anamorph.core.model import Encodes, Samples, encode_in_chunks, require
    from anamorph.core.random import Seeded
    from anamorph.data.images import images_of
    from anamorph.edit.traverse import changes
    from anamorph.figures.matrix import save_matrices

    assert options.factors is not None
    train, held = (images_of(open_like(model, options.run, options.factors, split)).shuffled() for split in ("train", "test"))
    reader = factor_classifier(options.run, train, held, options.learn).to(options.device)
    if isinstance(model, Samples):
        codes = model.sample_codes(READ, Seeded(options.seed, "factors", device=options.device))
    else:
        codes = encode_in_chunks(require(model, Encodes, "reading factors"), held.take(0, READ).signals.to(options.device))
    shares = changes(model, codes, directions, space, options.reach / 2, reader.predict, layers)
    names = list(reader.heads)
    save_matrices(chart, {"": shares.tolist()}, names, "moved along", "share of images in which this changed", directions.names)
    note(f"{chart}: how often each factor changes")
    return {
        "changed": {
            name: dict(zip(names, row, strict=True)) for name, row in zip(directions.names, shares.tolist(), strict=True)
        }
    }


def _describe(directions: Directions, matrix: Tensor) -> str:
    """How far the image of a moved code moves along its own direction, and along which other it moves most."""
    lines = ["of a step along a direction, the share that the encoder finds in the image, and where most of the rest goes:"]
    for i, name in enumerate(directions.names):
        row = matrix[i].tolist()
        others = sorted(((abs(v), j) for j, v in enumerate(row) if j != i), reverse=True)[:1]
        rest = "".join(f", {directions.names[j]} {row[j]:+.2f}" for _, j in others)
        lines.append(f"  {name:<24} {row[i]:+.2f}{rest}")
    return "\n".join(lines)
