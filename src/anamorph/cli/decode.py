"""`anamorph decode RUN CODES`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from anamorph.cli.options import ClassArguments, Common, RunArgument, check_at_least, emit, note
from anamorph.cli.parsing import parse

__all__ = ["main"]


@dataclass(frozen=True)
class Decode(Common):
    """Decode a file of codes to images or sounds.

    They are written as one picture; sounds also as WAV files.
    """

    run: RunArgument = tyro.MISSING
    """Folder of the run."""
    codes: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CODES")] = tyro.MISSING
    """File written by `anamorph encode`, or one of that format."""
    n: int = 64
    """Number of codes to decode, from the first on, at least 1."""
    label: ClassArguments = ()
    """Decode with these classes instead of those in the file: speaker=theo is the same words by another speaker. For models
    that decode a label."""


def main(words: Sequence[str]) -> int:
    options = parse(Decode, "decode", words)
    check_at_least(1, n=options.n)

    from anamorph.cli.classes import class_numbers
    from anamorph.core.fingerprint import fingerprint_of
    from anamorph.core.labels import label_sizes, with_labels
    from anamorph.core.model import decode_in_chunks
    from anamorph.core.space import check_codes, read_codes
    from anamorph.figures.show import show_all

    codes, _, facts = read_codes(options.codes)
    model = options.load(options.run)
    codes = with_labels(
        codes, class_numbers(options.run, options.label, label_sizes(model), "the model does not decode a label")
    )
    check_codes(codes, model.spaces)
    if facts.get("model") not in (None, fingerprint_of(model)):
        note(f"{options.codes} was made by another model, or by this one when it had seen fewer images")
    with options.computing():
        x = decode_in_chunks(model, {name: value[: options.n].to(options.device) for name, value in codes.items()})
    path = options.out or options.run / "decode.png"
    written = show_all(path, model.signal, x)
    emit(options.json, f"{written}: {len(x)} {model.signal.noun}s", **written.paths, n=len(x))
    return 0
