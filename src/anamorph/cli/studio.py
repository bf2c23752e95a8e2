"""`anamorph studio [RUN...]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from anamorph.cli.options import check_at_least, note
from anamorph.cli.parsing import ADVANCED, parse
from anamorph.core.errors import UserError

__all__ = ["main"]


@dataclass(frozen=True)
class Studio:
    """Look at, mix and edit the images of trained models in the browser."""

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[RUN...]")] = ()
    """Folders of runs, or folders that contain some. Default: runs/, or else the current folder."""
    port: int = 7860
    """Port to listen on, 0 to 65535; 0: any free one."""
    host: str = "127.0.0.1"
    """Address to listen on. With one that other machines can reach, such as 0.0.0.0, visitors need a token."""
    token: str = ""
    """Token that visitors need. Default: none on this machine alone, else a random one."""
    no_browser: bool = False
    """Print the address without opening a browser."""
    threads: Annotated[int | None, ADVANCED] = None
    """Number of processor threads, at least 1. Default: all."""


def main(words: Sequence[str]) -> int:
    options = parse(Studio, "studio", words)
    if not 0 <= options.port <= 65535:
        raise UserError(f"--port must be 0 to 65535, got {options.port}")

    check_at_least(1, threads=options.threads)

    import torch

    from anamorph.studio.serve import serve

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    runs = options.runs or (Path("runs") if Path("runs").is_dir() else Path(),)
    serve(runs, options.host, options.port, options.token, not options.no_browser, note)
    return 0
