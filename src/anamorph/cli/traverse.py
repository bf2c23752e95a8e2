"""`anamorph traverse RUN IMAGE... --directions FILE`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from anamorph.cli.factor_classifier import CLASSIFIER_IMAGES, factor_classifier
from anamorph.cli.options import Common, ImageArguments, RunArgument, check_at_least, emit, note
from anamorph.cli.parsing import ADVANCED, parse
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from anamorph.core.model import LatentModel
    from anamorph.core.space import Space
    from anamorph.edit.directions import Directions
    from anamorph.edit.layers import Layers

__all__ = ["main"]

FACTOR_IMAGES = 128
"""Images on which changes of factors are counted."""


@dataclass(frozen=True)
class Traverse(Common):
    """Move images along directions, one row each.

    For models with an encoder, also measure how much each direction moves the others.
    """

    run: RunArgument = tyro.MISSING
    """Folder of the run."""
    images: ImageArguments = ()
    """Files, seed:7 or data:12."""
    directions: Annotated[Path, tyro.conf.arg(metavar="FILE")] = tyro.MISSING
    """File of directions, written by `anamorph directions`."""
    names: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME...")] = ()
    """Use only these directions. Default: the first ten."""
    layers: Annotated[str | None, tyro.conf.arg(metavar="LAYERS")] = None
    """Move only these layers: coarse, middle, fine, all, 0-3 or 0-1,6. Default: those that the file says."""
    reach: float = 3.0
    """How far to go in both directions, in standard deviations of codes, above 0."""
    steps: int = 9
    """Images in a row, at least 2."""
    factors: Annotated[str | None, tyro.conf.arg(metavar="SOURCE")] = None
    """Measure how often each label of this source changes, according to a classifier. It is trained once, in minutes, and kept
    in the run's folder."""
    learn: Annotated[int, ADVANCED] = CLASSIFIER_IMAGES
    """Images to train the classifier of --factors on, at least 1."""


def main(words: Sequence[str]) -> int:
    options = parse(Traverse, "traverse", words)
    if not options.images:
        raise UserError("name the images to move: files, seed:7 or data:12")
    if not 0 < options.reach < float("inf"):
        raise UserError(f"--reach must be above 0 and finite, got {options.reach}")
    check_at_least(2, steps=options.steps)
    check_at_least(1, learn=options.learn)

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
    titles = [f"{image}, {name}" if len(options.images) > 1 else name for image in options.images for name in directions.names]
    rows = [Row(title, row) for title, row in zip(titles, images.split(len(steps)), strict=True)]
    path = options.out or options.run / "traverse.png"
    title = f"standard deviations along {directions.method} directions"
    written = show(path, model.signal, rows, title, [f"{step:+.3g}" for step in steps.tolist()])
    facts: dict[str, object] = {**written.paths, "names": directions.names}
    if options.factors is not None:
        with options.computing():
            facts |= _factors(model, directions, space, layers, options, path.with_stem(f"{path.stem}-factors"))
    text = f"{written}: {title}"
    if matrix is not None:
        text, facts = f"{text}\n{_describe(directions, matrix)}", facts | {"moved": matrix.tolist()}
    emit(options.json, text, **facts)
    return 0


def _factors(
    model: LatentModel, directions: Directions, space: Space, layers: Layers | None, options: Traverse, chart: Path
) -> dict[str, object]:
    """Return how often each factor changes, half the reach along each direction, in samples or else in held-out images."""
    from anamorph.cli.image_arguments import open_like
    from anamorph.core.model import Encodes, Samples, encode_in_chunks, require
    from anamorph.core.random import Seeded
    from anamorph.data.images import images_of
    from anamorph.edit.traverse import change_rates
    from anamorph.figures.matrix import save_matrices

    assert options.factors is not None
    train, held = (images_of(open_like(model, options.run, options.factors, split)).shuffled() for split in ("train", "test"))
    classifier = factor_classifier(options.run, train, held, options.learn).to(options.device)
    if isinstance(model, Samples):
        codes = model.sample_codes(FACTOR_IMAGES, Seeded(options.seed, "factors", device=options.device))
    else:
        codes = encode_in_chunks(
            require(model, Encodes, "measuring factors"), held.take(0, FACTOR_IMAGES).signals.to(options.device)
        )
    shares = change_rates(model, codes, directions, space, options.reach / 2, classifier.predict, layers)
    names = list(classifier.heads)
    save_matrices(chart, {"": shares.tolist()}, names, "moved along", "share of images in which this changed", directions.names)
    note(f"{chart}: how often each factor changes")
    return {
        "changed": {
            name: dict(zip(names, row, strict=True)) for name, row in zip(directions.names, shares.tolist(), strict=True)
        }
    }


def _describe(directions: Directions, matrix: Tensor) -> str:
    """Describe how far re-encoded images have moved along their own direction, and along which other one most."""
    lines = ["share of a step that the encoder finds again in the image, and the other direction with the largest share:"]
    for i, name in enumerate(directions.names):
        row = matrix[i].tolist()
        others = sorted(((abs(v), j) for j, v in enumerate(row) if j != i), reverse=True)[:1]
        rest = "".join(f", {directions.names[j]} {row[j]:+.2f}" for _, j in others)
        lines.append(f"  {name:<24} {row[i]:+.2f}{rest}")
    return "\n".join(lines)
