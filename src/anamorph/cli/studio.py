"""`anamorph studio [RUN...]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from anamorph.cli.options import note, parse
from anamorph.core.errors import UserError

__all__ = ["main"]


@dataclass(frozen=True)
class Studio:
    """See, mix and edit what models have learned, in the browser."""

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN...")] = ()
    """Runs' folders, or folders that hold some; by default runs/, or the current folder."""
    host: str = "127.0.0.1"
    """Where to listen. Beyond this machine (such as 0.0.0.0), a token is wanted of whoever comes."""
    port: int = 7860
    """0: any that is free."""
    token: str = ""
    """What visitors have to know; by default one is made up where others could come."""
    no_browser: bool = False
    """Only tell the address."""
    threads: int | None = None
    """Processor threads; by default all."""


def main(words: Sequence[str]) -> int:
    options = parse(Studio, "studio", words)
    if not 0 <= options.port <= 65535:
        raise UserError(f"--port is 0 to 65535, got {options.port}")

    import torch

    from anamorph.studio.serve import serve

    if options.threads is not None:
        if options.threads < 1:
            raise UserError(f"--threads must be at least 1, got {options.threads}")
        torch.set_num_threads(options.threads)
    runs = options.runs or (Path("runs") if Path("runs").is_dir() else Path(),)
    serve(runs, options.host, options.port, options.token, not options.no_browser, note)
    return 0
