from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from anamorph.core.files import write_json
from anamorph.studio.serve import address_of, token_for
from anamorph.studio.service import find_runs
from commands import fails


def test_mistakes_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(["studio", str(tmp_path)], "no run in", capsys)
    fails(["studio", str(tmp_path / "nothing")], "there is no folder", capsys)
    fails(["studio", str(tmp_path), "--port", "70000"], "--port must be 0 to 65535", capsys)
    write_json(tmp_path / "a" / "config.json", {"format": 1})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        fails(["studio", str(tmp_path), "--port", str(taken.getsockname()[1]), "--no-browser"], "cannot listen at", capsys)


def test_a_token_is_made_up_where_others_could_come() -> None:
    assert token_for("127.0.0.1", "") == ""
    assert token_for("127.0.0.1", "mine") == "mine"
    assert len(token_for("0.0.0.0", "")) >= 32
    assert token_for("0.0.0.0", "") != token_for("0.0.0.0", "")
    assert address_of("::1", 80, "x") == "http://[::1]:80/?token=x"


def test_runs_are_found_in_folders_under_names_of_their_own(tmp_path: Path) -> None:
    for place in ("cats/alae", "dogs/alae", "dogs/my run!", ".hidden/x"):
        write_json(tmp_path / place / "config.json", {"format": 1})
    (tmp_path / "linked").symlink_to("/")
    found = find_runs([tmp_path, tmp_path / "cats" / "alae"])
    assert {name: str(path.relative_to(tmp_path)) for name, path in found.items()} == {
        "alae": "cats/alae",
        "dogs-alae": "dogs/alae",
        "my-run": "dogs/my run!",
    }


def test_it_says_what_to_install_where_the_extra_is_missing(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "config.json", {"format": 1})
    program = "import sys; sys.modules['fastapi'] = None; from anamorph.cli.main import main; sys.exit(main(sys.argv[1:]))"
    ended = subprocess.run(
        [sys.executable, "-c", program, "studio", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert 'pip install "anamorph[studio]"' in ended.stderr
