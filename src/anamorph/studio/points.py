"""Points: positions in a latent space, written as JSON expressions of where they come from and how they are edited.

An example is `seed` 7, `truncate`d, `move`d along two directions, and `mix`ed with an image of the data. The page sends such
expressions, sessions contain them, the server evaluates them (`bench.py`), and `code.py` writes them as Python code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from anamorph.core.errors import UserError
from anamorph.studio.limits import DEPTH, GRID_SIDE, NAME, NODES, PICTURES, SEED

__all__ = [
    "Along",
    "Between",
    "Cell",
    "DecodeOptions",
    "FromCodes",
    "FromData",
    "FromFile",
    "FromSeed",
    "Group",
    "Mean",
    "Mixed",
    "Moved",
    "Painted",
    "Point",
    "Redrawn",
    "Relabelled",
    "Truncated",
    "check_size",
    "parts_of",
]

Finite = Annotated[float, Field(ge=-1e4, le=1e4, allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=0, le=SEED)]
Index = Annotated[int, Field(ge=0, le=1 << 20)]
Layers = Annotated[tuple[Annotated[int, Field(ge=0, le=63)], ...], Field(min_length=1, max_length=64)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Name = Annotated[str, Field(min_length=1, max_length=NAME)]


class PointModel(BaseModel):
    """Base class of expressions. They are frozen, so that results can be cached by them, and refuse unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FromSeed(PointModel):
    """The model's sample of a seed, which the command line calls seed:7.

    Args:
        kind: seed.
        seed: of the random numbers.
        temperature: of the prior; 1 changes nothing.
        top_p: share of the prior's probability that is sampled from, by nucleus sampling; None: all of it.
        labels: the class of each label that the sample is conditioned on.
    """

    kind: Literal["seed"] = "seed"
    seed: Whole
    temperature: Annotated[float, Field(gt=0.01, le=10)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    labels: Annotated[tuple[tuple[Name, Index], ...], Field(max_length=8)] = ()


class FromData(PointModel):
    """An encoded held-out image or sound, which the command line calls data:12."""

    kind: Literal["data"] = "data"
    index: Index


class FromFile(PointModel):
    """An encoded upload. digest: from the response to the upload."""

    kind: Literal["file"] = "file"
    digest: Digest
    name: Annotated[str, Field(max_length=NAME)] = ""


class FromCodes(PointModel):
    """Codes that were computed by optimisation or uploaded, which the server stores under a digest."""

    kind: Literal["codes"] = "codes"
    digest: Digest


class Mean(PointModel):
    """The mean of several points."""

    kind: Literal["mean"] = "mean"
    of: Annotated[tuple[Point, ...], Field(min_length=1, max_length=PICTURES)]


class Truncated(PointModel):
    """A point truncated: moved towards the mean of w. psi: 1 changes nothing, 0 is the mean. layers: None: all."""

    kind: Literal["truncate"] = "truncate"
    of: Point
    psi: Annotated[float, Field(ge=-4, le=4)]
    layers: Layers | None = None


class Along(PointModel):
    """A step along a direction.

    Args:
        directions: name of the set: pca, sefa, labels:NAME, a file of the run, or the digest of one made from two groups.
        which: number of the direction in the set.
        steps: length of the step, in standard deviations of codes.
        layers: that are moved; None: all.
    """

    directions: Name
    which: Annotated[int, Field(ge=0, le=4095)]
    steps: Annotated[float, Field(ge=-100, le=100)]
    layers: Layers | None = None


class Moved(PointModel):
    """A point moved along directions, one after another."""

    kind: Literal["move"] = "move"
    of: Point
    along: Annotated[tuple[Along, ...], Field(max_length=64)]


class Mixed(PointModel):
    """Style mixing: a point with some layers of another, the source; without layers, interpolated to it by a share."""

    kind: Literal["mix"] = "mix"
    of: Point
    source: Point
    layers: Layers | None = None
    share: Annotated[float, Field(ge=0, le=1)] = 0.5


class Between(PointModel):
    """A point interpolated between two ends, or between four, which are corners row by row. x: to the right. y: downwards."""

    kind: Literal["between"] = "between"
    ends: Annotated[tuple[Point, ...], Field(min_length=2, max_length=4)]
    x: Finite
    y: Finite = 0.0

    @model_validator(mode="after")
    def _corners(self) -> Between:
        if len(self.ends) == 3:
            raise ValueError("got 3 ends, expected two or four: leave out one, or add one")
        return self


class Cell(PointModel):
    """A cell of a grid of codes: its map, row and column, and its new code."""

    map: Annotated[int, Field(ge=0, le=63)] = 0
    y: Annotated[int, Field(ge=0, le=1023)]
    x: Annotated[int, Field(ge=0, le=1023)]
    code: Index


class Painted(PointModel):
    """A point with some codes of a grid replaced."""

    kind: Literal["paint"] = "paint"
    of: Point
    space: Name
    cells: Annotated[tuple[Cell, ...], Field(max_length=4096)]


class Redrawn(PointModel):
    """A point with some codes sampled anew by the prior (inpainting). places: (row, column) on the finest grid."""

    kind: Literal["redraw"] = "redraw"
    of: Point
    places: Annotated[tuple[tuple[Index, Index], ...], Field(min_length=1, max_length=4096)]
    seed: Whole
    temperature: Annotated[float, Field(gt=0.01, le=10)] = 1.0


class Relabelled(PointModel):
    """A point whose codes are decoded conditioned on other classes: the same words, spoken by another."""

    kind: Literal["relabel"] = "relabel"
    of: Point
    labels: Annotated[tuple[tuple[Name, Index], ...], Field(min_length=1, max_length=8)]


Point = Annotated[
    FromSeed | FromData | FromFile | FromCodes | Mean | Truncated | Moved | Mixed | Between | Painted | Redrawn | Relabelled,
    Field(discriminator="kind"),
]
"""A position in a latent space."""


class Group(PointModel):
    """A direction from the mean of some points (away) to that of others (towards)."""

    name: Name
    towards: Annotated[tuple[Point, ...], Field(min_length=1, max_length=PICTURES)]
    away: Annotated[tuple[Point, ...], Field(min_length=1, max_length=PICTURES)]


for _model in (Group, Mean, Truncated, Moved, Mixed, Between, Painted, Redrawn, Relabelled):
    _model.model_rebuild()


class DecodeOptions(PointModel):
    """How codes are decoded. noise: fixed noise maps, none, or those of noise_seed."""

    noise: Literal["fixed", "off", "fresh"] = "fixed"
    noise_seed: Whole = 0


def parts_of(point: Point) -> tuple[Point, ...]:
    """Return the points that a point is made of."""
    if isinstance(point, Mean):
        return point.of
    if isinstance(point, Between):
        return point.ends
    if isinstance(point, Mixed):
        return point.of, point.source
    if isinstance(point, Truncated | Moved | Painted | Redrawn | Relabelled):
        return (point.of,)
    return ()


def _depths(point: Point, depth: int) -> Iterator[int]:
    """Yield the depth of a point and of all points within it."""
    yield depth
    for part in parts_of(point):
        yield from _depths(part, depth + 1)


def check_size(points: Sequence[Point]) -> None:
    """Check the number of points, and how deep they are nested.

    Raises:
        UserError: if they are too many, or nested too deep.
    """
    if len(points) > max(PICTURES, GRID_SIDE**2):
        raise UserError(f"{len(points)} pictures were requested at once: request at most {max(PICTURES, GRID_SIDE**2)}")
    nodes = 0
    for point in points:
        for depth in _depths(point, 1):
            nodes += 1
            if depth > DEPTH:
                raise UserError(f"a point is nested deeper than {DEPTH} levels: save its codes, upload them, and edit those")
    if nodes > NODES:
        raise UserError(f"these points have {nodes} parts, and at most {NODES} are accepted: request fewer")
