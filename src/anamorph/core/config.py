"""Settings as plain values and back: frozen dataclasses to JSON, checked field by field when they return."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union

from anamorph.core.errors import UserError, nearest

__all__ = ["check", "from_plain", "to_plain"]

T = TypeVar("T")


def check(config: Any, wanted: Literal["at least 0", "at least 1", "above 0", "in [0, 1)"], *names: str) -> None:
    """Raises: UserError if one of these fields, or a value in one that is a tuple, is not a finite number as wanted."""
    holds = {
        "at least 0": lambda v: v >= 0,
        "at least 1": lambda v: v >= 1,
        "above 0": lambda v: v > 0,
        "in [0, 1)": lambda v: 0 <= v < 1,
    }[wanted]
    for name in names:
        value = getattr(config, name)
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        if not all(math.isfinite(v) and holds(v) for v in values):
            raise UserError(f"{name.replace('_', '-')} must be {wanted}, got {value}")


def to_plain(value: Any) -> Any:
    """A dataclass, and whatever it holds, as JSON knows it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    return value


def from_plain(kind: type[T], values: Mapping[str, Any], where: str, **given: Any) -> T:
    """A dataclass from plain values; fields that are `given` are taken as they are.

    Raises: UserError for an unknown or missing field, or a value of another type.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{where} is {values!r}, wanted settings by name")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise UserError(f"{where}: unknown setting {name!r}: {nearest(name, fields)}")
    known = {name: _convert(hints[name], value, f"{where}: {name}") for name, value in values.items()} | given
    required = [f.name for f in fields.values() if f.default is f.default_factory is dataclasses.MISSING]
    missing = [name for name in required if name not in known]
    if missing:
        raise UserError(f"{where} lacks {', '.join(missing)}")
    return kind(**known)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(_meant([a for a in arguments if a is not type(None)], value), value, where)
    if origin is Literal:
        if value in arguments:
            return value
        raise UserError(f"{where} is {value!r}, wanted one of {', '.join(map(repr, arguments))}")
    if origin is tuple and isinstance(value, list):
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) == len(value):
            return tuple(_convert(k, v, where) for k, v in zip(kinds, value, strict=True))
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_plain(typing.cast("type[Any]", hint), value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise UserError(f"{where} is {value!r}, wanted {getattr(hint, '__name__', hint)}")


def _meant(kinds: list[Any], value: Any) -> Any:
    """Of several kinds of dataclass, the one that has most of the named values; else the first kind."""
    named = set(value) if isinstance(value, Mapping) else set()
    return max(kinds, key=lambda k: len(named & {f.name for f in dataclasses.fields(k)}) if dataclasses.is_dataclass(k) else 0)
