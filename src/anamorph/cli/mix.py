"""`anamorph mix RUN --rows IMAGE... --columns IMAGE...`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
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
    statistics: bool = False
    """Also draw how far other styles, and other noise, move the statistics of 64 drawn images' features."""


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
    what = f"layers {', '.join(ranges)} from the left, the others from above" if layered else "between left and above"
    save_picture(path, sheet(lines, what))
    if options.statistics:
        with options.computing():
            _statistics(model, path.with_stem(f"{path.stem}-statistics"), options)
    emit(options.json, f"{path}: {len(images)} mixed images, {what}", path=path, n=len(images))
    return 0


def _mixed(model: LatentModel, codes: Codes, source: Codes, layers: str, share: float) -> Codes:
    from anamorph.edit.layers import layered, parse_layers
    from anamorph.edit.mix import blend, mix

    if not layers:
        return blend(codes, source, share)
    return mix(codes, source, parse_layers(layers, layered(model.spaces).shape[0]), model.spaces)


def _statistics(model: LatentModel, path: Path, options: Mix) -> None:
    from anamorph.core.model import Draws, decode_in_parts, require
    from anamorph.core.random import Seeded
    from anamorph.edit.layers import layer_groups, layered
    from anamorph.edit.mix import mix
    from anamorph.edit.noise import draw_noise, noise_spaces
    from anamorph.figures.bars import save_bars
    from anamorph.metrics.style_statistics import moved

    drawer = require(model, Draws, "drawing images for statistics")
    groups = {name: layers for name, layers in layer_groups(layered(model.spaces).shape[0]).items() if layers}
    codes, others = (drawer.draw(64, Seeded(options.seed, name, device=options.device)) for name in ("one", "other"))
    changed = {f"{name} styles": decode_in_parts(model, mix(codes, others, groups[name], model.spaces)) for name in groups}
    random = Seeded(options.seed, "noise", device=options.device)
    maps = draw_noise(64, model.spaces, random, tuple(range(len(noise_spaces(model.spaces)))))
    changed["noise"] = decode_in_parts(model, {**codes, **maps})
    found = moved(decode_in_parts(model, codes), changed)
    save_bars(path, found, "How far a change moves images' features (1: to another image)")
