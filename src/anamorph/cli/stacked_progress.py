"""How far work is that has several parts, one in another: a bar for each, with the time that is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

__all__ = ["StackedProgress"]


class StackedProgress:
    """Called with what comes now, yields a function of (done, total); to be used while it is entered."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)

    def __enter__(self) -> StackedProgress:
        self.bars.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.bars.__exit__(*error)

    def __call__(self, what: str) -> AbstractContextManager[Any]:
        return self._told(what)

    @contextmanager
    def _told(self, what: str) -> Iterator[Any]:
        task = self.bars.add_task(what, total=None)
        try:
            yield lambda done, total: self.bars.update(task, completed=done, total=total)
        finally:
            self.bars.remove_task(task)
