"""`anamorph encode RUN IMAGE... or SOURCE`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from anamorph.cli.options import Common, ImageArguments, RunArgument, emit, parse, report_progress
from anamorph.core.errors import UserError

__all__ = ["main"]

BATCH = 256


@dataclass(frozen=True)
class Encode(Common):
    """Write the codes of images as safetensors, with the spaces that they belong to in its metadata."""

    run: RunArgument = tyro.MISSING
    """The run's folder."""
    images: ImageArguments = ()
    """Files, seed:7, data:12; or one source, whose held-out images are taken (write :train or :all behind it for others)."""


def main(words: Sequence[str]) -> int:
    options = parse(Encode, "encode", words)
    if not options.images:
        raise UserError("name the images to encode: files, data:12, or a source such as digits:test")

    import torch

    from anamorph.cli.picking import as_source, fingerprint, pick
    from anamorph.core.model import Encodes, encode_in_parts, require
    from anamorph.core.space import write_codes

    model = require(options.load(options.run), Encodes, "encoding")
    with options.computing():
        source = as_source(model, options.images)
        if source is None:
            found = [picked.codes for picked in pick(model, options.run, options.images)]
        else:
            found = []
            with report_progress("encoding") as progress:
                for start in range(0, source.size, BATCH):
                    batch = source.take(start, min(BATCH, source.size - start)).signals.to(options.device)
                    found.append(encode_in_parts(model, batch))
                    progress(start + len(batch), source.size)
    codes = {name: torch.cat([part[name] for part in found]) for name in found[0]}
    path = options.out or options.run / "codes.safetensors"
    spaces = [space for space in model.spaces if space.name in codes]
    facts = {"model": fingerprint(model), "images": " ".join(options.images)}
    write_codes(path, codes, spaces, facts)
    n = len(next(iter(codes.values())))
    told = "; ".join(str(space) for space in spaces)
    emit(options.json, f"{path}: codes of {n:,} images: {told}", path=path, n=n, spaces=[str(s) for s in spaces])
    return 0
