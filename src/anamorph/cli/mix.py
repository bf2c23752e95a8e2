"""`anamorph mix RUN --rows IMAGE... --columns IMAGE...`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from anamorph.cli.options import Common, RunArgument, emit, parse
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from anamorph.core.model import LatentModel
    from anamorph.core.space import Codes
    from anamorph.edit.layers import Layers

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
    layers: tuple[str, ...] = ()
    """The layers that come from the source: coarse (by default), middle, fine, all, 0-3 or 0-1,6; one of these per source."""
    share: float | None = None
    """For models without layers: how far to go from the column's code to the row's, 0 to 1; half the way by default."""
    statistics: bool = False
    """Also draw how far other styles, and other noise, move the statistics of 64 drawn images' features."""


def main(words: Sequence[str]) -> int:
    options = parse(Mix, "mix", words)
    if not options.rows or not options.columns:
        raise UserError("name the images of the table: --rows seed:1 seed:2 --columns seed:3 data:0")

    from anamorph.cli.image_arguments import encode_arguments, stack_codes
    from anamorph.core.model import decode_in_chunks
    from anamorph.edit.mix import every_pair
    from anamorph.figures.grid import Row
    from anamorph.figures.show import show

    model = options.load(options.run)
    ways = _ways(model, options)
    sources = [row.split("+") for row in options.rows]
    if any(len(names) != len(ways) for names in sources):
        raise UserError(f"a row has one source for each of --layers; got {', '.join(options.rows)} for {len(ways)}")
    with options.computing():
        picked = encode_arguments(model, options.run, [name for names in sources for name in names] + list(options.columns))
        columns = picked[-len(options.columns) :]
        _, codes = every_pair(stack_codes(columns[:1] * len(sources)), stack_codes(columns))
        for i, way in enumerate(ways):
            rows, _ = every_pair(stack_codes(picked[i : -len(columns) : len(ways)]), stack_codes(columns))
            codes = way(codes, rows)
        images = decode_in_chunks(model, codes)
    width = len(columns)
    heads = [[p.image[0] for p in picked[i * len(ways) : (i + 1) * len(ways)]] for i in range(len(sources))]
    blank: list[Tensor | None] = [None] * len(ways)
    lines = [Row("", [*blank, *(c.image[0] for c in columns)])]
    lines += [
        Row(name, [*head, *images[i * width : (i + 1) * width]])
        for i, (name, head) in enumerate(zip(options.rows, heads, strict=True))
    ]
    path = options.out or options.run / "mix.png"
    what = f"layers {', '.join(options.layers or ('coarse',))} from the left, the others from above"
    what = what if _layered(model) else "between left and above"
    path = options.out or options.run / "mix.png"
    written = show(path, model.signal, lines, what)
    facts: dict[str, object] = {**written.paths, "n": len(images)}
    if options.statistics:
        chart = path.with_stem(f"{path.stem}-statistics")
        with options.computing():
            facts |= {"statistics": _statistics(model, chart, options), "chart": chart}
        what = f"{what}; {chart}: how far styles and noise move images' features"
    emit(options.json, f"{written}: {len(images)} mixed {model.signal.noun}s, {what}", **facts)
    return 0


def _layered(model: LatentModel) -> bool:
    return any(space.layered for space in model.spaces)


def _ways(model: LatentModel, options: Mix) -> list[Callable[[Codes, Codes], Codes]]:
    """How codes take up each source of a row: some of its layers, or a share of the way to it."""
    from anamorph.edit.layers import layers_among
    from anamorph.edit.mix import lerp_towards

    if not _layered(model) and not options.layers and not options.statistics:
        share = 0.5 if options.share is None else options.share
        return [lambda codes, source: lerp_towards(codes, source, share)]
    ranges = [layers_among(text, model.spaces) for text in options.layers or ("coarse",)]
    if options.share is not None:
        raise UserError("--share is for models without layers; of this one, choose --layers")
    return [partial(_mixed, model, layers) for layers in ranges]


def _mixed(model: LatentModel, layers: Layers, codes: Codes, source: Codes) -> Codes:
    from anamorph.edit.mix import mix

    return mix(codes, source, layers, model.spaces)


def _statistics(model: LatentModel, path: Path, options: Mix) -> dict[str, dict[str, float]]:
    from anamorph.core.model import HasNoise, Samples, decode_in_chunks, require
    from anamorph.core.random import Seeded
    from anamorph.edit.layers import layer_groups, layered
    from anamorph.edit.mix import mix
    from anamorph.edit.noise import sample_noise
    from anamorph.figures.bars import save_bars
    from anamorph.metrics.style_statistics import moved

    drawer = require(model, Samples, "drawing images for statistics")
    groups = {name: layers for name, layers in layer_groups(layered(model.spaces).shape[0]).items() if layers}
    codes, others = (drawer.sample_codes(64, Seeded(options.seed, name, device=options.device)) for name in ("one", "other"))
    changed = {f"{name} styles": decode_in_chunks(model, mix(codes, others, groups[name], model.spaces)) for name in groups}
    if isinstance(model, HasNoise) and model.fixed_noise:
        random, maps = Seeded(options.seed, "noise", device=options.device), tuple(range(len(model.fixed_noise)))
        changed["noise"] = decode_in_chunks(model, {**codes, **sample_noise(64, model.spaces, random, maps)})
    found = moved(decode_in_chunks(model, codes), changed)
    save_bars(path, found, "How far a change moves images' features (1: to another image)")
    return found
