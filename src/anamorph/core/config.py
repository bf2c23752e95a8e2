"""Convert settings, which are frozen dataclasses, to plain values for JSON and back; each field is checked on the way back."""

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


def check(config: Any, bound: Literal["at least 0", "at least 1", "above 0", "in [0, 1)"], *names: str) -> None:
    """Check that numbers in a configuration are finite and within a bound.

    Args:
        config: a dataclass.
        bound: what must hold of each number.
        names: fields with a number, None, or a tuple of numbers.

    Raises:
        UserError: names the field that is out of bounds.
    """
    holds = {
        "at least 0": lambda v: v >= 0,
        "at least 1": lambda v: v >= 1,
        "above 0": lambda v: v > 0,
        "in [0, 1)": lambda v: 0 <= v < 1,
    }[bound]
    for name in names:
        value = getattr(config, name)
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        if not all(math.isfinite(v) and holds(v) for v in values):
            raise UserError(f"{name.replace('_', '-')} must be {bound}, got {value}")


def to_plain(value: Any) -> Any:
    """Convert a dataclass, with all that it contains, to dictionaries, lists and plain values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    return value


def from_plain(kind: type[T], values: Mapping[str, Any], where: str, **given: Any) -> T:
    """Make a dataclass from plain values, and check them.

    Args:
        kind: the dataclass.
        values: its fields by name.
        where: where the values come from, for messages.
        given: fields that are taken as they are.

    Raises:
        UserError: for an unknown or missing field, or a value of another type.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{where} is {values!r}, expected settings by name")
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
        return _convert(_best_match([a for a in arguments if a is not type(None)], value), value, where)
    if origin is Literal:
        if value in arguments:
            return value
        raise UserError(f"{where} is {value!r}, expected one of {', '.join(map(repr, arguments))}")
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
    raise UserError(f"{where} is {value!r}, expected {getattr(hint, '__name__', hint)}")


def _best_match(kinds: list[Any], value: Any) -> Any:
    """Return the dataclass that has most of the named values; the first one, where none is a dataclass."""
    named = set(value) if isinstance(value, Mapping) else set()
    return max(kinds, key=lambda k: len(named & {f.name for f in dataclasses.fields(k)}) if dataclasses.is_dataclass(k) else 0)
