"""A session: what was looked at and made, as a file that opens again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from anamorph.studio.limits import NAME
from anamorph.studio.points import Group, Look, Point, check_size

__all__ = ["Pin", "Session"]


class Pin(BaseModel):
    """A point that was kept, and the group that it was put in."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    point: Point
    group: Literal["", "a", "b"] = ""


class Session(BaseModel):
    """Points of one run: the current one, those that were pinned, the directions that were made of them, and how all are looked
    at."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    anamorph: Literal["studio session"] = "studio session"
    format: Literal[1] = 1
    run: Annotated[str, Field(max_length=200)]
    current: Point | None = None
    pins: Annotated[list[Pin], Field(max_length=200)] = []
    groups: Annotated[list[Group], Field(max_length=64)] = []
    look: Look = Look()
    panel: Annotated[str, Field(max_length=NAME)] = ""

    def check(self) -> None:
        """Raises: UserError for points that are too deep."""
        for pin in self.pins:
            check_size([pin.point])
        check_size([] if self.current is None else [self.current])
