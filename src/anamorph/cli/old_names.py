"""Old names of options, each answered with its present name."""

from __future__ import annotations

from collections.abc import Sequence

from anamorph.core.errors import UserError

__all__ = ["check_option_names"]

OLD_NAMES: dict[str, dict[str, str]] = {
    "train": {"rate": "sample-rate", "names": "name-pattern", "best": "best-metric", "parts": "gradient-accumulation"},
    "resume": {"parts": "gradient-accumulation"},
    "sample": {"keep": "keep-best"},
    "sources": {"rate": "sample-rate", "names": "name-pattern"},
    "project": {"rate": "learning-rate", "stay": "prior-weight"},
}
"""Options of each command, old name to new name."""


def check_option_names(command: str, words: Sequence[str]) -> None:
    """Check that no option is called by its old name.

    Args:
        command: name of the command.
        words: the command line behind the name.

    Raises:
        UserError: for the first old name; the message has the present one.
    """
    for word in words:
        old = word.removeprefix("--").partition("=")[0]
        new = _new_name(command, words, old) if word.startswith("--") else None
        if new is not None:
            raise UserError(f"--{old} is now --{new}")


def _new_name(command: str, words: Sequence[str], old: str) -> str | None:
    """Return the present name of an option, if `old` is an old one."""
    group, _, setting = old.partition(".")
    if command != "train" or not setting:
        return OLD_NAMES.get(command, {}).get(old)

    from anamorph.catalog import MODELS, PRIORS
    from anamorph.training.format_1 import GROWING
    from anamorph.training.migrations import new_option

    off = "no-" if setting.rpartition(".")[2].startswith("no-") else ""
    name = setting.replace(off, "", 1).replace("-", "_")
    model = next((word for word in words if word in MODELS | PRIORS), "")
    found = {"model": new_option(model, name), "growing": GROWING.get(name)}.get(group)
    if found is None:
        return None
    path, dot, last = found.replace("_", "-").rpartition(".")
    return f"{group}.{path}{dot}{off}{last}"
