"""`anamorph mix RUN --rows IMAGE... --columns IMAGE...`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from anamorph.cli.options import Common, RunArgument, emit
from anamorph.cli.parsing import ADVANCED, parse
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from anamorph.core.model import LatentModel
    from anamorph.core.space import Codes
    from anamorph.edit.layers import Layers

__all__ = ["main"]


@dataclass(frozen=True)
class Mix(Common):
    """Mix images in a table: each cell is its column's image with some layers of its row's image."""

    run: RunArgument = tyro.MISSING
    """Folder of the run."""
    rows: Annotated[tuple[str, ...], tyro.conf.arg(metavar="IMAGE...")] = ()
    """Images that give layers: files, seed:7 or data:12. Several for one row are joined by +, as in seed:1+seed:2, one for
    each of --layers."""
    columns: Annotated[tuple[str, ...], tyro.conf.arg(metavar="IMAGE...")] = ()
    """Images that take layers: files, seed:7 or data:12."""
    layers: Annotated[tuple[str, ...], tyro.conf.arg(metavar="LAYERS...")] = ()
    """Layers taken from the row's image: coarse, middle, fine, all, 0-3 or 0-1,6; one for each image of a row. Default:
    coarse."""
    share: float | None = None
    """Blend codes without layers: the share of the row's code, 0 to 1. Default: 0.5."""
    statistics: Annotated[bool, ADVANCED] = False
    """Also chart how far other styles, and other noise, move the feature statistics of 64 sampled images."""


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
    mixers = _mixers(model, options)
    sources = [row.split("+") for row in options.rows]
    if any(len(names) != len(mixers) for names in sources):
        raise UserError(
            f"a row has one image for each of --layers, joined by +; got --rows {' '.join(options.rows)} for {len(mixers)} "
            f"ranges of layers"
        )
    with options.computing():
        encoded = encode_arguments(model, options.run, [name for names in sources for name in names] + list(options.columns))
        columns = encoded[-len(options.columns) :]
        _, codes = every_pair(stack_codes(columns[:1] * len(sources)), stack_codes(columns))
        for i, mixer in enumerate(mixers):
            rows, _ = every_pair(stack_codes(encoded[i : -len(columns) : len(mixers)]), stack_codes(columns))
            codes = mixer(codes, rows)
        images = decode_in_chunks(model, codes)
    width = len(columns)
    heads = [[p.image[0] for p in encoded[i * len(mixers) : (i + 1) * len(mixers)]] for i in range(len(sources))]
    blank: list[Tensor | None] = [None] * len(mixers)
    lines = [Row("", [*blank, *(c.image[0] for c in columns)])]
    lines += [
        Row(name, [*head, *images[i * width : (i + 1) * width]])
        for i, (name, head) in enumerate(zip(options.rows, heads, strict=True))
    ]
    title = f"layers {', '.join(options.layers or ('coarse',))} from the left, the others from above"
    title = title if _layered(model) else "between left and above"
    path = options.out or options.run / "mix.png"
    written = show(path, model.signal, lines, title)
    facts: dict[str, object] = {**written.paths, "n": len(images)}
    if options.statistics:
        chart = path.with_stem(f"{path.stem}-statistics")
        with options.computing():
            facts |= {"statistics": _statistics(model, chart, options), "chart": chart}
        title = f"{title}; {chart}: how far styles and noise move images' features"
    emit(options.json, f"{written}: {len(images)} mixed {model.signal.noun}s, {title}", **facts)
    return 0


def _layered(model: LatentModel) -> bool:
    return any(space.layered for space in model.spaces)


def _mixers(model: LatentModel, options: Mix) -> list[Callable[[Codes, Codes], Codes]]:
    """Return a function of (codes, source) for each image of a row, which gives codes some layers or a share of the source."""
    from anamorph.edit.layers import layers_among
    from anamorph.edit.mix import lerp_towards

    if not _layered(model) and not options.layers and not options.statistics:
        share = 0.5 if options.share is None else options.share
        return [lambda codes, source: lerp_towards(codes, source, share)]
    ranges = [layers_among(text, model.spaces) for text in options.layers or ("coarse",)]
    if options.share is not None:
        raise UserError("--share is for models without layers; this one has layers: leave out --share, or choose --layers")
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

    sampler = require(model, Samples, "sampling images for --statistics")
    groups = {name: layers for name, layers in layer_groups(layered(model.spaces).shape[0]).items() if layers}
    codes, others = (sampler.sample_codes(64, Seeded(options.seed, name, device=options.device)) for name in ("one", "other"))
    changed = {f"{name} styles": decode_in_chunks(model, mix(codes, others, groups[name], model.spaces)) for name in groups}
    if isinstance(model, HasNoise) and model.fixed_noise:
        random, maps = Seeded(options.seed, "noise", device=options.device), tuple(range(len(model.fixed_noise)))
        changed["noise"] = decode_in_chunks(model, {**codes, **sample_noise(64, model.spaces, random, maps)})
    distances = moved(decode_in_chunks(model, codes), changed)
    save_bars(path, distances, "How far a change moves images' features (1: to another image)")
    return distances
