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
    """Images or sounds from a file of codes, as one picture; sounds as WAV files, too."""

    run: RunArgument = tyro.MISSING
    """The run's folder."""
    codes: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CODES")] = tyro.MISSING
    """A file that `anamorph encode` wrote, or of that form."""
    n: int = 64
    """At most so many, from the first on."""
    label: tuple[str, ...] = ()
    """Another class than that in the codes, as name=value: speaker=theo is the same words, said by another. For models that
    decode a label."""


def main(words: Sequence[str]) -> int:
    options = parse(Decode, "decode", words)

    from anamorph.cli.classes import class_numbers
    from anamorph.core.fingerprint import fingerprint_of
    from anamorph.core.labels import label_sizes, with_labels
    from anamorph.core.model import decode_in_chunks
    from anamorph.core.space import check_codes, read_codes
    from anamorph.figures.show import show_all

    codes, _, facts = read_codes(options.codes)
    model = options.load(options.run)
    codes = with_labels(codes, class_numbers(options.run, options.label, label_sizes(model), "the model decodes no"))
    check_codes(codes, model.spaces)
    if facts.get("model") not in (None, fingerprint_of(model)):
        note(f"{options.codes} was made by another model, or by this one when it had seen fewer images")
    with options.computing():
        x = decode_in_chunks(model, {name: value[: options.n].to(options.device) for name, value in codes.items()})
    path = options.out or options.run / "decode.png"
    written = show_all(path, model.signal, x)
    emit(options.json, f"{written}: {len(x)} {model.signal.noun}s", **written.paths, n=len(x))
    return 0
