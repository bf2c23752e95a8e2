"""Evaluates points: to codes, and codes to signals; for one model, in one thread."""

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
from anamorph.studio.direction_sets import MOST_OWN_SETS, DirectionSets
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

CACHED = 1024
"""Points whose codes are cached."""


@dataclass
class Bench:
    """A model with what its points refer to: its data, uploaded files, stored codes and directions. It is not thread-safe.

    Args:
        model: the run's model.
        run: folder of the run.
        files: uploaded images and sounds, by digest.
        stored_codes: codes that were uploaded or found by optimisation, by digest.
        groups: definitions of directions that were made from two groups of points.
    """

    model: LatentModel
    run: Path
    files: Store[bytes]
    stored_codes: Store[Codes]
    groups: Store[Group] = field(default_factory=lambda: Store(MOST_OWN_SETS))
    _cache: OrderedDict[Point, Codes] = field(default_factory=OrderedDict)

    @cached_property
    def settings(self) -> Settings:
        return settings_of(RunFolder(self.run))

    @cached_property
    def data(self) -> Dataset:
        """The held-out images or sounds, which data:12 refers to.

        Raises:
            UserError: if they cannot be found.
        """
        return preview_data(self.settings)

    @cached_property
    def direction_sets(self) -> DirectionSets:
        return DirectionSets(self.model, self.run)

    def define(self, group: Group) -> str:
        """Make a direction from two groups of points; return the name of its set, a digest of its definition."""
        name = digest_of({}, group.model_dump_json())
        towards, away = ([self.codes([point]) for point in side] for side in (group.towards, group.away))
        self.direction_sets.own.put(name, self.direction_sets.between(group.name, towards, away))
        return self.groups.put(name, group)

    def held_out(self, start: int, count: int) -> Batch:
        """Return held-out examples with their labels, at the level that the model has grown to.

        Raises:
            UserError: if there is no example of the number `start`.
        """
        if start >= self.data.size:
            raise UserError(
                f"there is no data:{start}: the run has {self.data.size} held-out {self.data.signal.noun}s, numbered from 0"
            )
        count = min(count, self.data.size - start)
        return self.data.take(start, count, level_of(self.model, self.data.signal))

    def original(self, point: Point) -> Tensor | None:
        """Return the signal [1, ...] that a point was encoded from; None if it was not encoded."""
        if isinstance(point, FromData):
            return self.held_out(point.index, 1).signals
        if isinstance(point, Relabelled):
            return self.original(point.of)
        return self._file(point) if isinstance(point, FromFile) else None

    def labels(self, point: Point) -> dict[str, str]:
        """Return the class names of a point of the data, by label; nothing for other points."""
        if not isinstance(point, FromData):
            return {}
        labels = self.held_out(point.index, 1).labels
        return {label.name: label.classes[int(labels[label.name])] for label in self.data.labels if label.classes}

    def _file(self, point: FromFile) -> Tensor:
        content = self.files.get(point.digest)
        if content is None:
            raise UserError("this file was uploaded to another studio, or too long ago: upload it again")
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
        """Return codes [n, ...] of points.

        Raises:
            UserError: if the model lacks a capability that a point needs, or a point refers to something that does not exist.
        """
        self._sample_together(points)
        return concatenate([self._codes(point) for point in points])

    @torch.no_grad()
    def decode(self, codes: Codes, look: DecodeOptions) -> Tensor:
        """Decode codes to signals [n, ...]. Each signal is independent of the others that are decoded with it.

        Raises:
            UserError: if they do not fit into memory.
        """
        n = len(next(iter(codes.values())))
        self.check_memory(n)
        if look.noise != "fresh":
            return decode_in_chunks(self.model, codes, look.noise).float()
        return self.model.decode(codes, PerExampleRandom([Seeded(look.noise_seed, "noise") for _ in range(n)])).float()

    def check_memory(self, n: int) -> Signal:
        """Return the kind of signal that the model makes, if n of them fit into memory.

        Raises:
            UserError: if they do not.
        """
        values = math.prod(self.model.signal.shape)
        if n * values > VALUES:
            raise UserError(
                f"{n} pictures of {self.model.signal} were requested at once: request at most {max(1, VALUES // values)}"
            )
        return self.model.signal

    def see(self, points: Sequence[Point], look: DecodeOptions | None = None) -> Tensor:
        """Return the signals [n, ...] of points."""
        return self.decode(self.codes(points), look or DecodeOptions())

    def _sample_together(self, points: Sequence[Point]) -> None:
        """Sample all seeds that points refer to, those with the same sampling settings at once, and cache their codes."""
        groups: dict[tuple[object, ...], list[FromSeed]] = {}
        seen: set[Point] = set()
        pending = list(points)
        while pending:
            point = pending.pop()
            pending += parts_of(point)
            if isinstance(point, FromSeed) and point not in self._cache and point not in seen:
                seen.add(point)
                groups.setdefault((point.temperature, point.top_p), []).append(point)
        for group in groups.values():
            codes = self._sampled(group)
            for i, point in enumerate(group):
                self._store(point, {name: value[i : i + 1] for name, value in codes.items()})

    def _sampled(self, group: Sequence[FromSeed]) -> Codes:
        """Sample codes [n, ...] of seeds that have the same sampling settings."""
        model = require(self.model, Samples, "sampling")
        random = PerExampleRandom([Seeded(point.seed, "seed") for point in group])
        settings = SamplingSettings(group[0].temperature, None, group[0].top_p)
        labels = self._label_values(group)
        if isinstance(model, HasPrior):
            return model.sample_codes(len(group), random, labels, settings)
        if settings != SamplingSettings():
            require(model, HasPrior, "a temperature or top-p")
        return model.sample_codes(len(group), random, labels)

    def _label_values(self, group: Sequence[FromSeed]) -> dict[str, Tensor] | None:
        """Return the classes [n] that seeds ask for, by label; None if they ask for none, and the model samples them itself."""
        requested = {name for point in group for name, _ in point.labels}
        unknown = requested - set(self.model.classes)
        if unknown:
            raise UserError(f"samples of this model are not conditioned on {', '.join(sorted(unknown))}: leave the label out")
        if isinstance(self.model, HasMapping):
            requested |= set(self.model.classes)  # by default, a seed is of the first class
        labels = {name: torch.tensor([dict(point.labels).get(name, 0) for point in group]) for name in requested}
        for name, values in labels.items():
            if int(values.max()) >= self.model.classes[name]:
                raise UserError(f"{name} has classes 0-{self.model.classes[name] - 1}, got {int(values.max())}")
        return labels or None

    def _store(self, point: Point, codes: Codes) -> Codes:
        """Cache a point's codes, and return them."""
        self._cache[point] = codes
        self._cache.move_to_end(point)
        while len(self._cache) > CACHED:
            self._cache.popitem(last=False)
        return codes

    def _codes(self, point: Point) -> Codes:
        """Return codes [1, ...] of a point."""
        cached = self._cache.get(point)
        if cached is not None:
            self._cache.move_to_end(point)
            return cached
        if isinstance(point, FromSeed):
            return self._store(point, self._sampled([point]))
        if isinstance(point, FromData | FromFile):
            return self._store(point, self._encoded(point))
        if isinstance(point, FromCodes):
            stored = self.stored_codes.get(point.digest)
            if stored is None:
                raise UserError("these codes were made in another studio, or too long ago: make them again")
            return stored
        if isinstance(point, Redrawn):
            return self._store(point, self._resampled(point))
        return self._edited(point)

    def _encoded(self, point: FromData | FromFile) -> Codes:
        """Encode an image or sound, with its labels, if the decoder is conditioned on them; an upload has the first class."""
        model = require(self.model, Encodes, f"encoding this {self.model.signal.noun}")
        batch = self.held_out(point.index, 1) if isinstance(point, FromData) else Batch(self._file(point))
        first_class = {name: torch.zeros(1, dtype=torch.long) for name in label_sizes(model)}
        return encode_batch(model, Batch(batch.signals, {**first_class, **batch.labels}))

    def _edited(self, point: Mean | Truncated | Moved | Mixed | Between | Painted | Relabelled) -> Codes:
        """Return codes of a point that is made of others."""
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
                directions, space = self.direction_sets.of(along.directions), code_space(self.model)
                if along.which >= len(directions):
                    raise UserError(f"{along.directions} has {len(directions)} directions, numbered from 0; got {along.which}")
                codes = move(codes, directions, along.which, along.steps, space, along.layers)
            return codes
        pair = concatenate([codes, self._codes(point.source)])
        codes, source = ({name: value[i : i + 1] for name, value in pair.items()} for i in (0, 1))
        if point.layers is None:
            return lerp_towards(codes, source, point.share)
        return mix(codes, source, point.layers, self.model.spaces)

    def _classes(self, point: Relabelled) -> dict[str, int]:
        """Return the class of each label that a point sets, if the decoder is conditioned on it."""
        sizes = label_sizes(self.model)
        for name, number in point.labels:
            if name not in sizes:
                raise UserError(f"the decoder is not conditioned on {name!r}: {nearest(name, list(sizes))}")
            if number >= sizes[name]:
                raise UserError(f"{name} has classes 0-{sizes[name] - 1}, got {number}")
        return dict(point.labels)

    def _resampled(self, point: Redrawn) -> Codes:
        """Sample a part of a grid of codes anew."""
        model = require(self.model, HasPrior, "sampling a part anew")
        rows, columns = self.grid
        mask = torch.zeros(rows, columns, dtype=torch.bool)
        for y, x in point.places:
            if y >= rows or x >= columns:
                raise UserError(
                    f"the grid of codes has {rows} rows and {columns} columns, numbered from 0; got row {y}, column {x}"
                )
            mask[y, x] = True
        settings = SamplingSettings(point.temperature)
        return inpaint(model, self._codes(point.of), mask, 1, Seeded(point.seed, "inpaint"), settings)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the finest grid of codes.

        Raises:
            UserError: if there is none.
        """
        grids = [s.shape[-2:] for s in self.model.spaces if s.num_codes is not None and len(s.shape) == 3]
        if not grids:
            raise UserError("this model has no grid of discrete codes: choose a model that has, such as a VQ-VAE")
        rows, columns = max(grids)
        return rows, columns


def _mean(codes: Codes) -> Codes:
    """Return the mean [1, ...] of codes [n, ...]."""
    for name, value in codes.items():
        if not value.is_floating_point():
            raise UserError(f"codes of {name!r} are discrete and have no mean: choose a model of real codes")
    return {name: value.mean(0, keepdim=True) for name, value in codes.items()}


def _between(ends: Sequence[Codes], point: Between) -> Codes:
    """Interpolate between two codes, or bilinearly between four."""
    both = concatenate(ends)
    places = [{name: value[i] for name, value in both.items()} for i in range(len(ends))]
    x = torch.tensor([point.x])
    top = lerp_codes(places[0], places[1], x)
    if len(places) == 2:
        return top
    bottom = lerp_codes(places[2], places[3], x)
    first, second = ({name: value[0] for name, value in line.items()} for line in (top, bottom))
    return lerp_codes(first, second, torch.tensor([point.y]))


def _painted(codes: Codes, point: Painted, sizes: Mapping[str, int | None]) -> Codes:
    """Replace codes of a grid. sizes: the number of codes of each space; None for real ones."""
    num_codes = sizes.get(point.space)
    if num_codes is None or point.space not in codes or codes[point.space].dim() != 4:
        raise UserError(f"the model has no grid of codes {point.space!r} to paint on: {nearest(point.space, list(sizes))}")
    value = codes[point.space].clone()
    maps, rows, columns = value.shape[1:]
    for cell in point.cells:
        if cell.map >= maps or cell.y >= rows or cell.x >= columns:
            place = f"map {cell.map}, row {cell.y}, column {cell.x}"
            raise UserError(f"the grid has {maps} maps of {rows}x{columns}, numbered from 0; got {place}")
        if cell.code >= num_codes:
            raise UserError(f"{point.space} has codes 0-{num_codes - 1}; got {cell.code}")
        value[0, cell.map, cell.y, cell.x] = cell.code
    return {**codes, point.space: value}
