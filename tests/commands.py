"""What the tests of commands have in common."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image as Pillow

from anamorph.cli.main import main


def size(path: Path) -> tuple[int, int]:
    """Of a picture, which can be read whole."""
    with Pillow.open(path) as picture:
        picture.load()
        return picture.size


def fails(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Assert that a command ends with status 2 and an error, not a traceback."""
    capsys.readouterr()
    assert main(words) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last, last
