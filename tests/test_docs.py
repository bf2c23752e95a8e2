"""The documentation is right: its commands, links and quotations."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import anamorph
from anamorph.catalog import MODELS, PRIORS, config_class
from anamorph.cli.main import COMMANDS, main
from trained import trained

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted((ROOT / "docs").glob("*.md"))
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(r"`(\w[\w/.-]*/[\w.-]+\.(?:py|js))`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """The fenced blocks of a page in some languages; of doctests, what is typed."""
    for language, text in FENCE.findall(page.read_text("utf-8")):
        if language in languages:
            yield doctest.script_from_examples(text) if text.startswith(">>>") else text


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every `anamorph` command in a page's shell blocks."""
    for text in blocks(page, "sh", "console"):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words and Path(words[0]).name == "anamorph":
                yield ["vae" if word == "MODEL" else word for word in words[1:]]


@pytest.fixture(scope="module", autouse=True)
def _wide() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")
        yield


@pytest.mark.parametrize(
    "words", [pytest.param(words, id=f"{page.stem}: {' '.join(words)}") for page in PAGES for words in commands(page)]
)
def test_every_command_has_the_options_that_a_page_gives_it(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert words[0] in COMMANDS
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    known = set(re.findall(r"--[a-z0-9.-]+", capsys.readouterr().out))
    used = {word.split("=")[0] for word in words if word.startswith("--")}
    assert used <= known


@EVERY_PAGE
def test_every_block_of_python_parses(page: Path) -> None:
    for text in blocks(page, "python"):
        ast.parse(textwrap.dedent(text))


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(tmp_path / "runs" / "demo", "alae", 64, config_class("alae")(width=32))
    monkeypatch.chdir(tmp_path)
    (text,) = blocks(ROOT / "README.md", "python")
    scope: dict[str, Any] = {}
    exec(compile(text, "README.md", "exec"), scope)
    assert len(scope["digits"]) > 100
    assert str(scope["model"].signal) == "8x8 with 1 channel"


@EVERY_PAGE
def test_what_blocks_of_python_import_exists(page: Path) -> None:
    for text in blocks(page, "python"):
        for node in ast.walk(ast.parse(textwrap.dedent(text))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("anamorph"):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "anamorph":
                assert hasattr(anamorph, node.attr), node.attr


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "CHANGELOG"], ids=lambda page: page.stem)
def test_every_setting_of_models_that_a_page_names_exists(page: Path) -> None:
    known = {field.name for name in MODELS | PRIORS for field in fields(config_class(name))}
    used = re.findall(r"--model\.(?:no-)?([a-z][a-z0-9-]*)", page.read_text("utf-8"))
    assert {name.replace("-", "_") for name in used} <= known


@EVERY_PAGE
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@EVERY_PAGE
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    for name in FILE.findall(FENCE.sub("", page.read_text("utf-8"))):
        assert any((folder / name).exists() for folder in (ROOT, ROOT / "src" / "anamorph", ROOT / "tests")), name


def test_architecture_lists_every_room_and_every_model() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rooms, layers = [text for language, text in FENCE.findall(page) if not language][:2]
    top = {path.name for path in (ROOT / "src" / "anamorph").iterdir() if not path.name.startswith(("_", "py."))}
    assert set(re.findall(r"^  (\w+(?:\.py|(?=/)))", rooms, re.MULTILINE)) == top
    families = {path.name for path in (ROOT / "src" / "anamorph" / "models").iterdir() if not path.name.startswith("_")}
    assert set(re.findall(r"^    (\w+(?:\.py|(?=/)))", rooms, re.MULTILINE)) == families
    assert set(re.findall(r"[a-z_]+", layers)) == {name.removesuffix(".py") for name in top}


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(page.read_text("utf-8")))
    return {heading.replace(" ", "-") for heading in plain}


def test_the_code_in_contributing_is_that_of_the_example() -> None:
    """Every Python block is a passage of the test-only BiGAN, word for word."""
    quoted = list(blocks(ROOT / "CONTRIBUTING.md", "python"))
    example = (ROOT / "tests" / "conformance" / "models" / "bigan.py").read_text("utf-8")
    assert len(quoted) > 5
    for text in quoted:
        assert text in example, text
