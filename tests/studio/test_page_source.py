"""The source of the page: its functions are short, and eslint has no complaint."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "src" / "anamorph" / "studio" / "page"
MOST_LINES = 60
BRACKETS = {"(": ")", "[": "]", "{": "}"}
STRING = re.compile(r"'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"")
REGEX = re.compile(r"/(?![/*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\[\n])+/[a-z]*")
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
HEADER = re.compile(r"(?:function\b\s*\w*|\b(?!(?:if|for|while|switch|catch|with)\b)\w+)\s*\(")


def code_only(text: str) -> str:
    """JavaScript with its comments, strings, templates and regular expressions replaced by blanks; lines stay."""
    out: list[str] = []
    templates: list[int] = []  # of each template that is open, the depth of braces within its expression; -1 in its text
    at = 0
    while at < len(text):
        size, kept = _next(text, at, "".join(out[-40:]), templates)
        out += text[at : at + size] if kept else re.sub(r"[^\n]", " ", text[at : at + size])
        at += size
    return "".join(out)


def _next(text: str, at: int, before: str, templates: list[int]) -> tuple[int, bool]:
    """The length of what begins at a place, and whether it is code."""
    if templates and templates[-1] < 0:
        return _template(text, at, templates), False
    if text[at] == "`":
        templates.append(-1)
        return 1, False
    if templates and text[at] in "{}":
        templates[-1] += 1 if text[at] == "{" else -1
        if templates[-1] < 0:
            return 1, False
    known = (COMMENT.match(text, at), STRING.match(text, at), REGEX.match(text, at) if _may_be_regex(before) else None)
    found = next((match for match in known if match), None)
    return (len(found.group()), False) if found else (1, True)


def _template(text: str, at: int, templates: list[int]) -> int:
    """The length of a part of a template's text."""
    if text.startswith("${", at):
        templates[-1] = 0
        return 2
    if text[at] == "`":
        templates.pop()
    return 2 if text[at] == "\\" else 1


def _may_be_regex(before: str) -> bool:
    return not before.strip() or before.rstrip()[-1] in "(,=:[!&|?{};+" or before.rstrip().endswith("return")


def closing(code: str, at: int) -> int:
    """Where the bracket closes that opens at a place."""
    depth = 0
    for i in range(at, len(code)):
        depth += (code[i] in BRACKETS) - (code[i] in BRACKETS.values())
        if depth == 0:
            return i
    raise AssertionError(f"a bracket is not closed: {code[at : at + 80]!r}")


def end_of_expression(code: str, at: int) -> int:
    """Where an arrow function ends whose body begins at a place: at its brace, or where the expression does."""
    start = at + len(code[at:]) - len(code[at:].lstrip())
    if code[start] == "{":
        return closing(code, start)
    while start < len(code) and code[start] not in ",;" and code[start] not in BRACKETS.values():
        start = closing(code, start) + 1 if code[start] in BRACKETS else start + 1
    return start


def functions(text: str) -> Iterator[tuple[int, int]]:
    """The first line of each function, method and arrow function, and how many lines it has."""
    code = code_only(text)

    def spans() -> Iterator[tuple[int, int]]:
        for match in re.finditer("=>", code):
            yield match.start(), end_of_expression(code, match.end())
        for match in HEADER.finditer(code):
            body = closing(code, match.end() - 1) + 1
            if code[body:].lstrip().startswith("{"):
                yield match.start(), closing(code, code.index("{", body))

    for start, end in spans():
        yield code.count("\n", 0, start) + 1, code.count("\n", start, end) + 1


def test_functions_are_measured() -> None:
    text = """const re = /[{(]/g, text = "{"; // }
export function outer(a, { b = 1 } = {}) {
  if (a) { return `${[1].map((x) => { return "}"; })} {`; }
  return [1].map((x) =>
    x +
    1);
}
class Thing {
  get size() { return 1; }
  async show({ a }) {
    await a;
  }
}
const body = (x) => ({
  a: x,
});
"""
    assert sorted(functions(text)) == [(2, 6), (3, 1), (4, 3), (9, 1), (10, 3), (14, 3)]


@pytest.mark.parametrize("path", sorted(PAGE.rglob("*.js")), ids=lambda path: path.stem)
def test_functions_of_the_page_are_short(path: Path) -> None:
    measured = list(functions(path.read_text("utf-8")))
    assert measured
    assert not [f"{path.name}:{line} has {lines} lines" for line, lines in measured if lines > MOST_LINES]


def test_eslint_has_no_complaint() -> None:
    """With the rules of eslint.config.js, which are eslint's recommended ones and the length of functions."""
    remedy = "npm install --global eslint @eslint/js to lint the page"
    found = os.environ.get("ANAMORPH_ESLINT") or shutil.which("eslint")
    if shutil.which("node") is None or found is None:
        pytest.skip(remedy)
    modules = next((parent for parent in Path(found).resolve().parents if parent.name == "node_modules"), None)
    if modules is None or not (modules / "@eslint" / "js").is_dir():
        pytest.skip(remedy)
    command = [found, "--max-warnings", "0", str(PAGE)]
    environment = {**os.environ, "NODE_PATH": str(modules)}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
