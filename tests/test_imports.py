"""Imports point one way: a file imports only from lower layers, and within a layer only from its own room."""

from __future__ import annotations

import ast
from pathlib import Path

import anamorph

ROOT = Path(anamorph.__file__).parent
LAYERS = (
    ("core",),
    ("nn", "losses", "data", "edit", "figures", "features"),
    ("models", "training", "metrics"),
    ("catalog", "presets", "settings", "run_data", "runs", "interop", "coding", "evaluation", "demo"),
    ("studio", "cli", "python_api"),
    ("__init__",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
WITHIN = {
    ("nn", "losses"),
    ("presets", "catalog"),
    ("runs", "catalog"),
    ("runs", "run_data"),
    ("runs", "settings"),
    ("run_data", "settings"),
    ("evaluation", "run_data"),
    ("demo", "run_data"),
    ("settings", "catalog"),
    ("interop", "catalog"),
    ("interop", "runs"),
    ("evaluation", "catalog"),
    ("evaluation", "interop"),
    ("evaluation", "runs"),
    ("evaluation", "settings"),
    ("demo", "runs"),
    ("demo", "evaluation"),
    ("demo", "settings"),
    ("cli", "studio"),
}
"""Imports within a layer that are meant: a law of pixels is a net with a likelihood; layer 3 builds on the catalog, the presets
and on runs."""


def _room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """The rooms of anamorph that a file imports, lazily or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found |= {name.split(".")[1] for name in names if name.startswith("anamorph.")}
    return found


def test_every_file_imports_only_from_below() -> None:
    wrong = []
    for path in ROOT.rglob("*.py"):
        room = _room(path)
        wrong += [
            f"{path.relative_to(ROOT)} imports {other}"
            for other in _imports(path) - {room}
            if LEVEL[other] >= LEVEL[room] and (room, other) not in WITHIN
        ]
    assert not wrong


def test_every_room_has_a_level() -> None:
    assert {_room(path) for path in ROOT.rglob("*.py")} == set(LEVEL)


def test_a_model_imports_no_other_model() -> None:
    for path in (ROOT / "models").glob("*.py"):
        siblings = [
            node.module
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("anamorph.models")
        ]
        assert not siblings, f"{path.name} imports {siblings}"


def test_files_and_functions_are_short() -> None:
    long = []
    for path in ROOT.rglob("*.py"):
        text = path.read_text()
        if text.count("\n") > 400:
            long.append(f"{path.name}: {text.count(chr(10))} lines")
        functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        long += [f"{path.name}: {f.name}" for f in functions if (f.end_lineno or 0) - f.lineno + 1 > 60]
    assert not long
