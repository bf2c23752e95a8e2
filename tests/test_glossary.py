"""Every public name has a row in docs/glossary.md, and every row is of a public name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import anamorph

GLOSSARY = Path(__file__).parents[1] / "docs" / "glossary.md"
TERMS, KEPT = GLOSSARY.read_text("utf-8").split("## Words that were kept")
ROWS = [line.strip("|").split(" | ") for line in TERMS.splitlines() if line.startswith("| `")]


def public_names() -> dict[str, str]:
    """Every name in an `__all__`, with a module that has it."""
    names: dict[str, str] = {}
    root = Path(anamorph.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
                names |= dict.fromkeys(ast.literal_eval(node.value), str(path.relative_to(root)))
    return names


def glossary_names() -> list[str]:
    """The names in the first column of the glossary's tables."""
    return [name for row in ROWS for name in re.findall(r"`(\w+)`", row[0])]


def test_every_public_name_is_in_the_glossary() -> None:
    known = set(glossary_names())
    assert not {f"{name} ({module})" for name, module in public_names().items() if name not in known}


def test_every_row_of_the_glossary_is_of_public_names() -> None:
    assert not set(glossary_names()) - public_names().keys()


def test_no_name_is_in_the_glossary_twice() -> None:
    names = glossary_names()
    assert not {name for name in names if names.count(name) > 1}


def test_every_row_says_what_a_name_means_and_who_uses_it() -> None:
    assert not [row for row in ROWS if len(row) != 3 or not all(cell.strip() for cell in row)]
