"""Points to codes, and codes to signals: all that is computed, for one model, by one thread."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor

from anamorph.core.errors import UserError, nearest
from anamorph.core.labels import encode_batch, label_sizes, with_labels
from anamorph.core.model import (
    Encodes,
    HasMapping,
    HasPrior,
    LatentModel,
    Samples,
    code_space,
    decode_in_chunks,
    level_of,
    require,
)
from anamorph.core.prior import SamplingSettings
from anamorph.core.random import Seeded
from anamorph.core.signal import Batch, Image, Signal
from anamorph.core.space import Codes, concatenate
from anamorph.data.dataset import Dataset
from anamorph.data.decode_image import BadImage, decode
from anamorph.data.images import to_signal
from anamorph.edit.directions import move
from anamorph.edit.inpaint import inpaint
from anamorph.edit.interpolate import lerp_codes
from anamorph.edit.mix import lerp_towards, mix
from anamorph.edit.truncate import truncate
from anamorph.run_data import preview_data
from anamorph.runs import settings_of
from anamorph.settings import Settings
from anamorph.studio.direction_sets import OWN, DirectionSets
from anamorph.studio.limits import VALUES
from anamorph.studio.per_example_random import PerExampleRandom
from anamorph.studio.points import (
    Between,
    DecodeOptions,
    FromCodes,
    FromData,
    FromFile,
    FromSeed,
    Group,
    Mean,
    Mixed,
    Moved,
    Painted,
    Point,
    Redrawn,
    Relabelled,
    Truncated,
    parts_of,
)
from anamorph.studio.sound_media import read_upload
from anamorph.studio.stores import Store, digest_of
from anamorph.training.folder import RunFolder

__all__ = ["Bench"]

REMEMBERED = 1024
"""Points whose codes are remembered."""


@dataclass
class Bench:
    """A model with what its points refer to: its data, uploaded images, found codes, directions. Not for several threads."""

    model: LatentModel
    run: Path
    files: Store[bytes]
    found: Store[Codes]
    groups: Store[Group] = field(default_factory=lambda: Store(OWN))
    _known: OrderedDict[Point, Codes] = field(default_factory=OrderedDict)

    @cached_property
    def settings(self) -> Settings:
        return settings_of(RunFolder(self.run))

    @cached_property
    def data(self) -> Dataset:
        """The images or sounds that data:12 names. Raises: UserError if they are not there."""
        return preview_data(self.settings)

    @cached_property
    def direction_sets(self) -> DirectionSets:
        return DirectionSets(self.model, self.run)

    def define(self, group: Group) -> str:
        """Make a direction from two groups of points; returns the name of its set, which is that of its definition."""
        name = digest_of({}, group.model_dump_json())
        towards, away = ([self.codes([point]) for point in side] for side in (group.towards, group.away))
        self.direction_sets.own.put(name, self.direction_sets.between(group.name, towards, away))
        return self.groups.put(name, group)

    def held_out(self, start: int, count: int) -> Batch:
        """Held-out examples with their labels, at the level that the model has grown to."""
        if start >= self.data.size:
            raise UserError(f"data:{start}: the run has {self.data.size} such {self.data.signal.noun}s, numbered from 0")
        count = min(count, self.data.size - start)
        return self.data.take(start, count, level_of(self.model, self.data.signal))

    def original(self, point: Point) -> Tensor | None:
        """The signal [1, ...] that a point was encoded from, if it is one of those."""
        if isinstance(point, FromData):
            return self.held_out(point.index, 1).signals
        if isinstance(point, Relabelled):
            return self.original(point.of)
        return self._file(point) if isinstance(point, FromFile) else None

    def labels(self, point: Point) -> dict[str, str]:
        """What the data say of a point, by label: the names of its classes; nothing, if it is none of theirs."""
        if not isinstance(point, FromData):
            return {}
        found = self.held_out(point.index, 1).labels
        return {label.name: label.classes[int(found[label.name])] for label in self.data.labels if label.classes}

    def _file(self, point: FromFile) -> Tensor:
        content = self.files.get(point.digest)
        if content is None:
            raise UserError("this file was uploaded to another studio, or too long ago: drop it here again")
        signal = self.model.signal
        if not isinstance(signal, Image):
            return read_upload(content, point.name, signal)
        try:
            pixels, _ = decode(BytesIO(content), signal)
        except BadImage as error:
            raise UserError(f"{point.name or 'this image'} is {error}") from error
        return to_signal(pixels[None])

    @torch.no_grad()
    def codes(self, points: Sequence[Point]) -> Codes:
        """Codes [n, ...] of points.

        Raises: UserError for what this model lacks, or what is not there.
        """
        self._draw_together(points)
        return concatenate([self._codes(point) for point in points])

    @torch.no_grad()
    def decode(self, codes: Codes, look: DecodeOptions) -> Tensor:
        """Signals [n, ...], each the same in any company.

        Raises: UserError if they are more than fit into memory.
        """
        n = len(next(iter(codes.values())))
        self.fitting(n)
        if look.noise != "fresh":
            return decode_in_chunks(self.model, codes, look.noise).float()
        return self.model.decode(codes, PerExampleRandom([Seeded(look.noise_seed, "noise") for _ in range(n)])).float()

    def fitting(self, n: int) -> Signal:
        """The kind of signal that the model makes. Raises: UserError if so many of them are more than fit into memory."""
        values = math.prod(self.model.signal.shape)
        if n * values > VALUES:
            raise UserError(f"{n} pictures of {self.model.signal} at once: ask for at most {max(1, VALUES // values)}")
        return self.model.signal

    def see(self, points: Sequence[Point], look: DecodeOptions | None = None) -> Tensor:
        """The signals [n, ...] of points."""
        return self.decode(self.codes(points), look or DecodeOptions())

    def _draw_together(self, points: Sequence[Point]) -> None:
        """Draw all that is to be drawn at once, by taste."""
        wanted: dict[tuple[object, ...], list[FromSeed]] = {}
        seen: set[Point] = set()
        left = list(points)
        while left:
            point = left.pop()
            left += parts_of(point)
            if isinstance(point, FromSeed) and point not in self._known and point not in seen:
                seen.add(point)
                wanted.setdefault((point.temperature, point.top_p), []).append(point)
        for group in wanted.values():
            codes = self._drawn(group)
            for i, point in enumerate(group):
                self._remember(point, {name: value[i : i + 1] for name, value in codes.items()})

    def _drawn(self, group: Sequence[FromSeed]) -> Codes:
        model = require(self.model, Samples, "drawing")
        random = PerExampleRandom([Seeded(point.seed, "seed") for point in group])
        taste = SamplingSettings(group[0].temperature, None, group[0].top_p)
        labels = self._labels(group)
        if isinstance(model, HasPrior):
            return model.sample_codes(len(group), random, labels, taste)
        if taste != SamplingSettings():
            require(model, HasPrior, "a temperature or top-p")
        return model.sample_codes(len(group), random, labels)

    def _labels(self, group: Sequence[FromSeed]) -> dict[str, Tensor] | None:
        """The class of each, by label; what a model draws by itself where none is asked for stays its own affair."""
        asked = {name for point in group for name, _ in point.labels}
        unknown = asked - set(self.model.classes)
        if unknown:
            raise UserError(f"the model draws by no label {', '.join(sorted(unknown))}")
        if isinstance(self.model, HasMapping):
            asked |= set(self.model.classes)  # alone, a seed is of the first class
        found = {name: torch.tensor([dict(point.labels).get(name, 0) for point in group]) for name in asked}
        for name, values in found.items():
            if int(values.max()) >= self.model.classes[name]:
                raise UserError(f"{name} has classes 0-{self.model.classes[name] - 1}, got {int(values.max())}")
        return found or None

    def _remember(self, point: Point, codes: Codes) -> Codes:
        self._known[point] = codes
        self._known.move_to_end(point)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return codes

    def _codes(self, point: Point) -> Codes:
        known = self._known.get(point)
        if known is not None:
            self._known.move_to_end(point)
            return known
        if isinstance(point, FromSeed):
            return self._remember(point, self._drawn([point]))
        if isinstance(point, FromData | FromFile):
            return self._remember(point, self._encoded(point))
        if isinstance(point, FromCodes):
            codes = self.found.get(point.digest)
            if codes is None:
                raise UserError("these codes were found in another studio, or too long ago: find them again")
            return codes
        if isinstance(point, Redrawn):
            return self._remember(point, self._redrawn(point))
        return self._edited(point)

    def _encoded(self, point: FromData | FromFile) -> Codes:
        """With the labels that are decoded with the codes: those of the data; the first class of what was uploaded."""
        model = require(self.model, Encodes, f"encoding this {self.model.signal.noun}")
        batch = self.held_out(point.index, 1) if isinstance(point, FromData) else Batch(self._file(point))
        first = {name: torch.zeros(1, dtype=torch.long) for name in label_sizes(model)}
        return encode_batch(model, Batch(batch.signals, {**first, **batch.labels}))

    def _edited(self, point: Mean | Truncated | Moved | Mixed | Between | Painted | Relabelled) -> Codes:
        if isinstance(point, Mean):
            return _mean(concatenate([self._codes(part) for part in point.of]))
        if isinstance(point, Between):
            return _between([self._codes(end) for end in point.ends], point)
        codes = self._codes(point.of)
        if isinstance(point, Truncated):
            return truncate(codes, require(self.model, HasMapping, "truncation").w_mean, point.psi, point.layers)
        if isinstance(point, Relabelled):
            return with_labels(codes, self._classes(point))
        if isinstance(point, Painted):
            return _painted(codes, point, {space.name: space.num_codes for space in self.model.spaces})
        if isinstance(point, Moved):
            for along in point.along:
                found, space = self.direction_sets.of(along.directions), code_space(self.model)
                if along.which >= len(found):
                    raise UserError(f"{along.directions} has {len(found)} directions, numbered from 0; got {along.which}")
                codes = move(codes, found, along.which, along.steps, space, along.layers)
            return codes
        pair = concatenate([codes, self._codes(point.source)])
        codes, source = ({name: value[i : i + 1] for name, value in pair.items()} for i in (0, 1))
        if point.layers is None:
            return lerp_towards(codes, source, point.share)
        return mix(codes, source, point.layers, self.model.spaces)

    def _classes(self, point: Relabelled) -> dict[str, int]:
        known = label_sizes(self.model)
        for name, number in point.labels:
            if name not in known:
                raise UserError(f"the model decodes no {name!r}: {nearest(name, list(known))}")
            if number >= known[name]:
                raise UserError(f"{name} has classes 0-{known[name] - 1}, got {number}")
        return dict(point.labels)

    def _redrawn(self, point: Redrawn) -> Codes:
        model = require(self.model, HasPrior, "drawing a part anew")
        space = self.grid
        mask = torch.zeros(space, dtype=torch.bool)
        for y, x in point.places:
            if y >= space[0] or x >= space[1]:
                raise UserError(f"the grid of codes has {space[0]} rows and {space[1]} columns; got row {y}, column {x}")
            mask[y, x] = True
        taste = SamplingSettings(point.temperature)
        return inpaint(model, self._codes(point.of), mask, 1, Seeded(point.seed, "inpaint"), taste)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the finest grid of codes. Raises: UserError if there is none."""
        grids = [s.shape[-2:] for s in self.model.spaces if s.num_codes is not None and len(s.shape) == 3]
        if not grids:
            raise UserError("this model's codes are no grids of whole numbers")
        rows, columns = max(grids)
        return rows, columns


def _mean(codes: Codes) -> Codes:
    for name, value in codes.items():
        if not value.is_floating_point():
            raise UserError(f"codes of {name!r} are whole numbers, which have no mean")
    return {name: value.mean(0, keepdim=True) for name, value in codes.items()}


def _between(ends: Sequence[Codes], point: Between) -> Codes:
    both = concatenate(ends)
    places = [{name: value[i] for name, value in both.items()} for i in range(len(ends))]
    x = torch.tensor([point.x])
    top = lerp_codes(places[0], places[1], x)
    if len(places) == 2:
        return top
    bottom = lerp_codes(places[2], places[3], x)
    first, second = ({name: value[0] for name, value in line.items()} for line in (top, bottom))
    return lerp_codes(first, second, torch.tensor([point.y]))


def _painted(codes: Codes, point: Painted, vocabularies: Mapping[str, int | None]) -> Codes:
    vocabulary = vocabularies.get(point.space)
    if vocabulary is None or point.space not in codes or codes[point.space].dim() != 4:
        raise UserError(f"there is no grid of codes {point.space!r} to paint on")
    value = codes[point.space].clone()
    maps, rows, columns = value.shape[1:]
    for cell in point.cells:
        if cell.map >= maps or cell.y >= rows or cell.x >= columns:
            raise UserError(f"the grid has {maps} maps of {rows}x{columns}; got map {cell.map}, row {cell.y}, column {cell.x}")
        if cell.code >= vocabulary:
            raise UserError(f"there are codes 0-{vocabulary - 1}; got {cell.code}")
        value[0, cell.map, cell.y, cell.x] = cell.code
    return {**codes, point.space: value}
