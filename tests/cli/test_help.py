"""The help of every command: order, groups, and no artefacts of types."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import pytest

from anamorph.catalog import MODELS, PRIORS
from anamorph.cli.main import COMMANDS, main


def help_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main([*words, "--help"])
    assert end.value.code == 0
    return capsys.readouterr().out


def position(text: str, option: str) -> int:
    """Where an option stands at the beginning of a line."""
    found = re.search(rf"^\W*{re.escape(option)}\b", text, re.MULTILINE)
    assert found, f"no {option}"
    return found.start()


@pytest.mark.parametrize("words", [[c] for c in COMMANDS] + [["train", name] for name in MODELS | PRIORS], ids=" ".join)
def test_help_shows_no_artefacts_of_types(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(help_of(words, capsys).split())
    for artefact in (
        "{None}",
        "None}",
        "{None",
        "(default: )",
        "(default: None)",
        "(default: '')",
        "(default: False)",
        "MISSING",
    ):
        assert artefact not in text
    assert " STR " not in text
    assert not re.search(r"\[(INT|FLOAT|STR|TEXT)", text)


@pytest.mark.parametrize("words", [[c] for c in COMMANDS] + [["train", name] for name in MODELS | PRIORS], ids=" ".join)
def test_every_option_is_described(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.split(r"\n\W*(?=--[a-z][\w.-]*\w\s)", help_of(words, capsys))[1:]
    assert blocks or words == ["info"]
    for block in blocks:
        described = block.split("options")[0].removeprefix(block.split()[0])
        assert len(re.findall(r"[a-z]{2,}", described)) >= 2, block


def test_common_options_come_after_a_commands_own_and_before_the_rare_ones(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(["sample"], capsys)
    order = [position(text, f"--{name}") for name in ("n", "temperature", "seed", "json", "cutoff", "device", "precision")]
    assert order == sorted(order)
    advanced = text.index("advanced options")
    assert position(text, "--json") < advanced < position(text, "--device")


def test_what_everyone_sets_comes_first_in_the_help_of_train(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(["train", "vae"], capsys)
    order = ("images", "out", "size", "batch", "lr-schedule", "seed", "model.z-dim", "sample-rate", "tensorboard", "compile")
    places = [position(text, f"--{name}") for name in order]
    assert places == sorted(places)


def test_optional_values_show_none_only_where_it_says_something(capsys: pytest.CaptureFixture[str]) -> None:
    assert "log-var-floor FLOAT|None" in help_of(["train", "vae"], capsys)
    assert "--images INT " in help_of(["train", "vae"], capsys)


def test_the_list_of_commands_is_shown_in_half_a_second() -> None:
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "anamorph", "--help"], capture_output=True, check=True)
        seconds.append(time.perf_counter() - start)
        if seconds[-1] < 0.5:
            return
    pytest.fail(f"took {min(seconds):.2f} s at best")
