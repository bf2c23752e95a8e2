"""Progress of nested tasks: a bar for each, with the time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

__all__ = ["StackedProgress"]


class StackedProgress:
    """Progress bars of nested tasks, shown while this is entered.

    Called with a title, it returns a context for one task, which yields a function of (done, total).
    """

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

    def __call__(self, title: str) -> AbstractContextManager[Any]:
        return self._task(title)

    @contextmanager
    def _task(self, title: str) -> Iterator[Any]:
        task = self.bars.add_task(title, total=None)
        try:
            yield lambda done, total: self.bars.update(task, completed=done, total=total)
        finally:
            self.bars.remove_task(task)
