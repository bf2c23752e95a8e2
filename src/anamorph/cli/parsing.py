"""Options as dataclasses: how they are parsed, and how their help reads."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro
from tyro.constructors import MISSING_NONPROP, ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

from anamorph.cli.old_names import check_option_names

__all__ = ["ADVANCED", "parse"]

T = TypeVar("T")

ADVANCED = "advanced"
"""Marks an option that few need: `Annotated[int, ADVANCED]` is listed in a group of its own, behind the others."""
HELP = ("-h", "--help")
METAVARS = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}


def parse(kind: type[T], command: str, words: Sequence[str], about: str = "") -> T:
    """Parse the options of a command; on `--help` or a mistake, print and exit.

    Args:
        kind: dataclass of the options; a field's docstring is its help.
        command: name of the command.
        words: the command line behind the name.
        about: description of the command; empty: the docstring of the dataclass.

    Raises:
        UserError: for an option by its old name.
    """
    help_wanted = any(word in HELP for word in words)
    if not help_wanted:
        check_option_names(command, words)
    return tyro.cli(
        kind,
        prog=f"anamorph {command}",
        args=["--help"] if help_wanted else _join_repeated(kind, words),
        description=_one_line(about or kind.__doc__ or ""),
        config=(tyro.conf.FlagCreatePairsOff,),
        registry=_registry(),
    )


def _join_repeated(kind: type, words: Sequence[str]) -> list[str]:
    """Return the words, with all values of an option of several values behind its first occurrence.

    Of `--label digit=7 --label speaker=theo`, only the last would count.
    """
    hints = get_type_hints(kind)
    several = {f"--{name.replace('_', '-')}" for name, hint in hints.items() if any(map(_is_list, _members(hint)))}
    current: list[str] = []
    parts, first = [current], dict[str, list[str]]()
    for word in words:
        if not word.startswith("--"):
            current.append(word)
            continue
        name, *value = word.split("=", 1)
        current = first.get(name, [name, *value] if name in several else [word])
        if name in first:
            current += value
        else:
            parts.append(current)
        if name in several:
            first[name] = current
    return [word for part in parts for word in part]


def _registry() -> ConstructorRegistry:
    """Return the rule by which help is written: order, groups, placeholders and defaults."""
    registry, inside = ConstructorRegistry(), set[Any]()

    @registry.struct_rule
    def rule(info: StructTypeInfo) -> StructConstructorSpec | None:
        kind: Any = info.type
        if kind in inside or not dataclasses.is_dataclass(kind):
            return None
        inside.add(kind)
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            inside.discard(kind)
        return _grouped(info.type, spec) if isinstance(spec, StructConstructorSpec) else None

    return registry


def _grouped(kind: type, spec: StructConstructorSpec) -> StructConstructorSpec:
    """Put a command's own options before those of all commands, and the advanced ones into a group at the end."""
    fields = sorted(spec.fields, key=lambda field: _depth(kind, field.name))
    rare = [field for field in fields if _is_advanced(field)]
    usual = [_presented(field) for field in fields if not _is_advanced(field)]
    if not rare:
        return StructConstructorSpec(spec.instantiate, tuple(usual))
    group: Any = dataclasses.make_dataclass(
        "Advanced", [(f.name, _usual(f.type), dataclasses.field(default=f.default, metadata={"help": _help(f)})) for f in rare]
    )
    folded = _annotated(group, tyro.conf.OmitArgPrefixes)

    def instantiate(advanced: Any, **usual: Any) -> Any:
        return spec.instantiate(**usual, **vars(advanced))

    return StructConstructorSpec(instantiate, (*usual, StructFieldSpec(ADVANCED, folded, group(), helptext="")))


def _depth(kind: type, name: str) -> int:
    """Return how far up among its bases a dataclass has a field from."""
    bases = [base for base in kind.__mro__ if dataclasses.is_dataclass(base)]
    return max(i for i, base in enumerate(bases) if name in {field.name for field in dataclasses.fields(base)})


def _is_advanced(field: StructFieldSpec) -> bool:
    return ADVANCED in _metadata(field.type)


def _presented(field: StructFieldSpec) -> StructFieldSpec:
    """Return a field with a placeholder that shows no None, and a default only where the help does not say it."""
    metavar = None if dataclasses.is_dataclass(_plain(field.type)) else _metavar(field.type, field.default)
    shown = tyro.conf.arg(metavar=metavar, help_behavior_hint=_default_hint(field.default))
    kind = _annotated(_plain(field.type), shown, *_metadata(field.type))
    return dataclasses.replace(field, type=kind, helptext=lambda: _help(field))


def _usual(kind: Any) -> Any:
    """Return the type of an option without the mark that it is an advanced one."""
    rest = [mark for mark in _metadata(kind) if mark != ADVANCED]
    return _annotated(_plain(kind), *rest) if rest else _plain(kind)


def _annotated(kind: Any, *marks: Any) -> Any:
    return operator.getitem(Annotated, (kind, *marks))


def _metadata(kind: Any) -> tuple[Any, ...]:
    return getattr(kind, "__metadata__", ())


def _help(field: StructFieldSpec) -> str | None:
    text: str | Callable[[], str | None] | None = field.helptext
    text = text() if callable(text) else text
    return _one_line(text) if text else None


def _one_line(text: str) -> str:
    """Join the lines of each paragraph."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _default_hint(default: Any) -> str | None:
    if default is True:
        return "(on by default)"
    if default is None or default is False or default is tyro.MISSING or default is MISSING_NONPROP:
        return ""
    return "" if default in ("", ()) else None


def _metavar(kind: Any, default: Any) -> str | None:
    """Return the placeholder of an option's value; None: there is none, or tyro's own will do."""
    members = _members(kind)
    names = [_name(member) for member in members if member is not NoneType]
    if None in names:
        return None
    if NoneType in members and default is not None:
        names.append("None")
    return "|".join(str(name) for name in names)


def _members(kind: Any) -> tuple[Any, ...]:
    """Return the alternatives of a type, without annotations."""
    kind = _plain(kind)
    return tuple(map(_plain, get_args(kind))) if get_origin(kind) in (Union, UnionType) else (kind,)


def _plain(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _name(kind: Any) -> str | None:
    if get_origin(kind) is Literal:
        return "{" + ",".join(map(str, get_args(kind))) + "}"
    if _is_list(kind):
        inner = _name(_plain(get_args(kind)[0]))
        return None if inner is None else f"{inner}..."
    return METAVARS.get(kind)


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis
