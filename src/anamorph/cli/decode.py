"""`anamorph decode RUN CODES`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from anamorph.cli.options import Common, RunArgument, emit, note, parse

__all__ = ["main"]


@dataclass(frozen=True)
class Decode(Common):
    """Images from a file of codes, as one picture."""

    run: RunArgument = tyro.MISSING
    """The run's folder."""
    codes: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CODES")] = tyro.MISSING
    """A file that `anamorph encode` wrote, or of that form."""
    n: int = 64
    """At most so many, from the first on."""


def main(words: Sequence[str]) -> int:
    options = parse(Decode, "decode", words)

    from anamorph.cli.picking import fingerprint
    from anamorph.core.space import check_codes, read_codes
    from anamorph.figures.grid import save_grid

    codes, _, facts = read_codes(options.codes)
    model = options.load(options.run)
    check_codes(codes, model.spaces)
    if facts.get("model") not in (None, fingerprint(model)):
        note(f"{options.codes} was made by another model, or by this one when it had seen fewer images")
    with options.computing():
        images = model.decode({name: value[: options.n].to(options.device) for name, value in codes.items()})
    path = options.out or options.run / "decode.png"
    save_grid(path, images)
    emit(options.json, f"{path}: {len(images)} images", path=path, n=len(images))
    return 0
