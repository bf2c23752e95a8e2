"""Places in a latent space, written as JSON: where they come from and what was done to them.

A point is an expression: `seed` 7, `truncate`d, `move`d along two directions, `mix`ed with an image of the data. The page sends
such expressions, sessions keep them, the server evaluates them (`evaluate.py`), and they can be read as Python (`code.py`).
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
    """Frozen, so that what it stands for can be remembered; nothing unknown is taken."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FromSeed(PointModel):
    """What the model draws from a seed: the image that the command line calls seed:7.

    temperature, top_p: for models with a prior over codes. labels: the class of each label that the model draws by.
    """

    kind: Literal["seed"] = "seed"
    seed: Whole
    temperature: Annotated[float, Field(gt=0.01, le=10)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    labels: Annotated[tuple[tuple[Name, Index], ...], Field(max_length=8)] = ()


class FromData(PointModel):
    """An image that was held out from training, encoded: data:12 on the command line."""

    kind: Literal["data"] = "data"
    index: Index


class FromFile(PointModel):
    """An uploaded image, encoded. digest: what the upload answered with."""

    kind: Literal["file"] = "file"
    digest: Digest
    name: Annotated[str, Field(max_length=NAME)] = ""


class FromCodes(PointModel):
    """Codes that were found by optimisation, or uploaded; kept by the server under a digest."""

    kind: Literal["codes"] = "codes"
    digest: Digest


class Mean(PointModel):
    """The mean of several."""

    kind: Literal["mean"] = "mean"
    of: Annotated[tuple[Point, ...], Field(min_length=1, max_length=PICTURES)]


class Truncated(PointModel):
    """Drawn towards the model's mean."""

    kind: Literal["truncate"] = "truncate"
    of: Point
    psi: Annotated[float, Field(ge=-4, le=4)]
    layers: Layers | None = None


class Along(PointModel):
    """So many standard deviations along a direction. directions: pca, sefa, a file of the run, or a digest of one's own."""

    directions: Name
    which: Annotated[int, Field(ge=0, le=4095)]
    steps: Annotated[float, Field(ge=-100, le=100)]
    layers: Layers | None = None


class Moved(PointModel):
    """Moved along directions, one after another."""

    kind: Literal["move"] = "move"
    of: Point
    along: Annotated[tuple[Along, ...], Field(max_length=64)]


class Mixed(PointModel):
    """With some layers of another's code, or, where there are no layers, a share of the way to it."""

    kind: Literal["mix"] = "mix"
    of: Point
    source: Point
    layers: Layers | None = None
    share: Annotated[float, Field(ge=0, le=1)] = 0.5


class Between(PointModel):
    """Between two points (x from the first to the second), or four (x to the right, y down: the corners row by row)."""

    kind: Literal["between"] = "between"
    ends: Annotated[tuple[Point, ...], Field(min_length=2, max_length=4)]
    x: Finite
    y: Finite = 0.0

    @model_validator(mode="after")
    def _corners(self) -> Between:
        if len(self.ends) == 3:
            raise ValueError("between two points or four, got 3")
        return self


class Cell(PointModel):
    """One place of a grid of codes, and the code that stands there."""

    map: Annotated[int, Field(ge=0, le=63)] = 0
    y: Annotated[int, Field(ge=0, le=1023)]
    x: Annotated[int, Field(ge=0, le=1023)]
    code: Index


class Painted(PointModel):
    """With some codes of a grid replaced."""

    kind: Literal["paint"] = "paint"
    of: Point
    space: Name
    cells: Annotated[tuple[Cell, ...], Field(max_length=4096)]


class Redrawn(PointModel):
    """With some codes drawn anew by the prior. places: (row, column) on the grid of the first discrete space."""

    kind: Literal["redraw"] = "redraw"
    of: Point
    places: Annotated[tuple[tuple[Index, Index], ...], Field(min_length=1, max_length=4096)]
    seed: Whole
    temperature: Annotated[float, Field(gt=0.01, le=10)] = 1.0


class Relabelled(PointModel):
    """With a label told to the decoder: the same words, spoken by another."""

    kind: Literal["relabel"] = "relabel"
    of: Point
    labels: Annotated[tuple[tuple[Name, Index], ...], Field(min_length=1, max_length=8)]


Point = Annotated[
    FromSeed | FromData | FromFile | FromCodes | Mean | Truncated | Moved | Mixed | Between | Painted | Redrawn | Relabelled,
    Field(discriminator="kind"),
]
"""A place in a latent space."""


class Group(PointModel):
    """A direction of one's own: from the mean of some points to that of others."""

    name: Name
    towards: Annotated[tuple[Point, ...], Field(min_length=1, max_length=PICTURES)]
    away: Annotated[tuple[Point, ...], Field(min_length=1, max_length=PICTURES)]


for _part in (Group, Mean, Truncated, Moved, Mixed, Between, Painted, Redrawn, Relabelled):
    _part.model_rebuild()


class DecodeOptions(PointModel):
    """How codes are decoded. noise: as `decode` takes it; fresh draws it from noise_seed."""

    noise: Literal["fixed", "off", "fresh"] = "fixed"
    noise_seed: Whole = 0


def parts_of(point: Point) -> tuple[Point, ...]:
    """The points that a point is made of."""
    if isinstance(point, Mean):
        return point.of
    if isinstance(point, Between):
        return point.ends
    if isinstance(point, Mixed):
        return point.of, point.source
    if isinstance(point, Truncated | Moved | Painted | Redrawn | Relabelled):
        return (point.of,)
    return ()


def _walk(point: Point, depth: int) -> Iterator[int]:
    yield depth
    for part in parts_of(point):
        yield from _walk(part, depth + 1)


def check_size(points: Sequence[Point]) -> None:
    """Raises: UserError if there are too many, or they are nested too deep."""
    if len(points) > max(PICTURES, GRID_SIDE**2):
        raise UserError(f"{len(points)} pictures at once: ask for at most {max(PICTURES, GRID_SIDE**2)}")
    nodes = 0
    for point in points:
        for depth in _walk(point, 1):
            nodes += 1
            if depth > DEPTH:
                raise UserError(f"a point is nested deeper than {DEPTH}: keep its codes instead, and go on from them")
    if nodes > NODES * 10:
        raise UserError(f"points of {nodes} parts at once: ask for fewer")
