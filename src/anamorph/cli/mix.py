"""`anamorph mix RUN --rows IMAGE... --columns IMAGE...`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro

from anamorph.cli.options import Common, RunArgument, emit, parse
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from anamorph.core.model import LatentModel
    from anamorph.core.space import Codes

__all__ = ["main"]


@dataclass(frozen=True)
class Mix(Common):
    """A table of mixed images: each cell is its column's image with some layers of its row's."""

    run: RunArgument = tyro.MISSING
    """The run's folder."""
    rows: tuple[str, ...] = ()
    """The sources: files, seed:7, data:12; several at once are joined by +, as in seed:1+seed:2, one for each of --layers."""
    columns: tuple[str, ...] = ()
    """What is changed: files, seed:7, data:12."""
    layers: tuple[str, ...] = ("coarse",)
    """The layers that come from the source: coarse, middle, fine, all, 0-3 or 0-1,6; as many of these as a row has sources."""
    share: float | None = None
    """For models without layers: how far to go from the column's code to the row's, 0 to 1; half the way by default."""


def main(words: Sequence[str]) -> int:
    options = parse(Mix, "mix", words)
    if not options.rows or not options.columns:
        raise UserError("name the images of the table: --rows seed:1 seed:2 --columns seed:3 data:0")

    from anamorph.cli.picking import gather, pick
    from anamorph.core.model import decode_in_parts
    from anamorph.edit.mix import every_pair
    from anamorph.figures.grid import Row, save_picture, sheet

    model = options.load(options.run)
    layered = any(space.layered for space in model.spaces)
    if layered and options.share is not None:
        raise UserError("--share is for models without layers; of this one, choose --layers")
    sources = [row.split("+") for row in options.rows]
    ranges = options.layers if layered else ("",) * len(sources[0])
    if any(len(names) != len(ranges) for names in sources):
        raise UserError(f"a row has one source for each of --layers ({', '.join(ranges)}); got {', '.join(options.rows)}")
    with options.computing():
        picked = pick(model, options.run, [name for names in sources for name in names] + list(options.columns))
        columns = picked[-len(options.columns) :]
        codes = None
        for i, layers in enumerate(ranges):
            rows, cells = every_pair(gather(picked[i : -len(columns) : len(ranges)]), gather(columns))
            codes = _mixed(model, codes or cells, rows, layers, 0.5 if options.share is None else options.share)
        assert codes is not None
        images = decode_in_parts(model, codes)
    width = len(columns)
    heads = [[p.image[0] for p in picked[i * len(ranges) : (i + 1) * len(ranges)]] for i in range(len(sources))]
    blank: list[Tensor | None] = [None] * len(ranges)
    lines = [Row("", [*blank, *(c.image[0] for c in columns)])]
    lines += [
        Row(name, [*head, *images[i * width : (i + 1) * width]])
        for i, (name, head) in enumerate(zip(options.rows, heads, strict=True))
    ]
    path = options.out or options.run / "mix.png"
    what = f"layers {', '.join(ranges)} of the left in the images above" if layered else "between the left and the images above"
    save_picture(path, sheet(lines, what))
    emit(options.json, f"{path}: {len(images)} mixed images, {what}", path=path, n=len(images))
    return 0


def _mixed(model: LatentModel, codes: Codes, source: Codes, layers: str, share: float) -> Codes:
    from anamorph.edit.layers import layered, parse_layers
    from anamorph.edit.mix import blend, mix

    if not layers:
        return blend(codes, source, share)
    return mix(codes, source, parse_layers(layers, layered(model.spaces).shape[0]), model.spaces)
