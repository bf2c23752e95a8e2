"""`anamorph encode RUN IMAGE... or SOURCE`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from anamorph.cli.options import ClassArguments, Common, ImageArguments, RunArgument, emit
from anamorph.cli.parsing import parse
from anamorph.core.errors import UserError

__all__ = ["main"]


@dataclass(frozen=True)
class Encode(Common):
    """Write the codes of images or sounds to a safetensors file.

    Its metadata describe the spaces of the codes.
    """

    run: RunArgument = tyro.MISSING
    """Folder of the run."""
    images: ImageArguments = ()
    """Files, seed:7 or data:12; or one SOURCE, whose held-out examples are used. With :train or :all behind it, those."""
    label: ClassArguments = ()
    """Classes that the model decodes and that files do not have, as in speaker=theo."""


def main(words: Sequence[str]) -> int:
    options = parse(Encode, "encode", words)
    if not options.images:
        raise UserError("name the images or sounds to encode: files, data:12, or a source such as digits:test")

    from anamorph.cli.classes import class_numbers
    from anamorph.cli.image_arguments import as_source, encode_arguments, encode_source, stack_codes
    from anamorph.core.fingerprint import fingerprint_of
    from anamorph.core.labels import label_sizes, with_labels
    from anamorph.core.model import Encodes, require
    from anamorph.core.space import write_codes

    model = require(options.load(options.run), Encodes, "encoding")
    with options.computing():
        classes = class_numbers(options.run, options.label, label_sizes(model), "the model does not decode a label")
        source = as_source(model, options.run, options.images)
        if source is None:
            codes = stack_codes(encode_arguments(model, options.run, options.images, classes))
        else:
            codes = with_labels(encode_source(model, source, source.size)[0], classes)
    path = options.out or options.run / "codes.safetensors"
    spaces = [space for space in model.spaces if space.name in codes]
    facts = {"model": fingerprint_of(model), "images": " ".join(options.images)}
    write_codes(path, codes, spaces, facts)
    n = len(next(iter(codes.values())))
    described = "; ".join(str(space) for space in spaces)
    emit(
        options.json,
        f"{path}: codes of {n:,} {model.signal.noun}s: {described}",
        path=path,
        n=n,
        spaces=[str(s) for s in spaces],
    )
    return 0
