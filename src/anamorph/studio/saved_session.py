"""Sessions: the state of the page as a file that can be opened again."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from anamorph.studio.limits import NAME
from anamorph.studio.points import DecodeOptions, Group, Point, check_size

__all__ = ["Pin", "Session"]


OLD_RELABEL = "told"
"""The kind of a relabelled point in sessions of format 1."""


class Pin(BaseModel):
    """A pinned point, and its group."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    point: Point
    group: Literal["", "a", "b"] = ""


class Session(BaseModel):
    """The state of the page for one run.

    Args:
        anamorph: marks the file as a session.
        format: of the file.
        run: name of the run.
        current: the current point.
        pins: pinned points.
        groups: directions that were made from two groups of points.
        look: how codes are decoded.
        panel: the panel that is open.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    anamorph: Literal["studio session"] = "studio session"
    format: Literal[2] = 2
    run: Annotated[str, Field(max_length=200)]
    current: Point | None = None
    pins: Annotated[list[Pin], Field(max_length=200)] = []
    groups: Annotated[list[Group], Field(max_length=64)] = []
    look: DecodeOptions = DecodeOptions()
    panel: Annotated[str, Field(max_length=NAME)] = ""

    @model_validator(mode="before")
    @classmethod
    def _from_format_1(cls, values: Any) -> Any:
        """Convert a session of format 1, which had another kind for relabelled points."""
        if isinstance(values, dict) and values.get("format") == 1:
            return {**_renamed_kinds(values), "format": 2}
        return values

    def check(self) -> None:
        """Check the points.

        Raises:
            UserError: for points that are nested too deep.
        """
        for pin in self.pins:
            check_size([pin.point])
        check_size([] if self.current is None else [self.current])


def _renamed_kinds(value: Any) -> Any:
    if isinstance(value, list):
        return [_renamed_kinds(part) for part in value]
    if isinstance(value, dict):
        renamed = {name: _renamed_kinds(part) for name, part in value.items()}
        return renamed | ({"kind": "relabel"} if value.get("kind") == OLD_RELABEL else {})
    return value
